//! How TLS begins with PostgreSQL: the client asks for it in the clear, and the server answers with
//! one byte (PostgreSQL's documentation, "SSL Session Encryption").

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::{ConnectError, ConnectErrorKind};

/// `SSLRequest`: its length, and the number that stands in the place of a protocol's version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// How long the answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the server for TLS. Only the one byte of its answer is read, so that nothing that was sent
/// in the clear is taken for what comes under TLS.
pub(super) async fn request_postgres_tls(
    socket: &mut TcpStream,
    server: &str,
) -> Result<(), ConnectError> {
    let exchange = async {
        socket.write_all(&SSL_REQUEST).await?;
        socket.read_u8().await
    };
    let answer = timeout(ANSWER_TIMEOUT, exchange).await;
    let (kind, found) = match answer {
        Ok(Ok(b'S')) => return Ok(()),
        Ok(Ok(b'N')) => {
            (ConnectErrorKind::Tls, "refused TLS; `ssl = on` switches it on".to_owned())
        }
        // It has no room for another connection.
        Ok(Ok(b'E')) => (ConnectErrorKind::Connect, "took no connection".to_owned()),
        Ok(Ok(_)) => (ConnectErrorKind::Tls, "answered as no PostgreSQL does".to_owned()),
        Ok(Err(error)) => {
            (ConnectErrorKind::Connect, format!("broke off before TLS: {}", error.kind()))
        }
        Err(_) => {
            let waited = ANSWER_TIMEOUT.as_secs();
            (ConnectErrorKind::Connect, format!("gave no answer to TLS within {waited} s"))
        }
    };
    Err(ConnectError { kind, detail: format!("`{server}`: {found}, expected TLS") })
}
