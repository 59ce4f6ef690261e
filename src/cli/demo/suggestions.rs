//! The commands that the demo suggests once it is up.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// The lines to try next: `at` is where the sidecar is; the domain file stands beside `identity`;
/// `bfb` is how this program is called.
pub(crate) fn suggest(
    bfb: &str,
    control: SocketAddr,
    at: &SidecarAddresses,
    identity: &Path,
) -> String {
    let flag = |flag: &str, port: &str, address: &str| match address.rsplit_once(':') {
        Some(("localhost" | "127.0.0.1" | "[::1]", usual)) if usual == port => String::new(),
        _ => format!(" --{flag} {address}"),
    };
    let listen = &at.listen;
    let admin = flag("admin", "7071", &at.admin);
    let at = flag("listen", "7070", listen);
    let domain = identity.with_file_name("customer.yaml");
    let identity = identity.display();
    let domain = domain.display();
    let steps = [
        (format!("curl -i http://{listen}/v2/customers/42"), "everything about customer 42"),
        (
            format!("curl -i http://{listen}/v1/customers/42"),
            "the same dataset, shaped; deprecated",
        ),
        (format!("curl -X POST 'http://{control}/orders/fail?status=503'"), "orders fails"),
        (format!("curl -i http://{listen}/v2/customers/43"), "one problem that names it, no data"),
        (format!("curl -X POST http://{control}/orders/recover"), "orders is well again"),
        (
            format!("curl -X POST http://{control}/favorites/change/42"),
            "customer 42 likes something new",
        ),
        (format!("{bfb} get{at}{admin} --explain customer 42"), "where the time went"),
        (format!("{bfb} status{admin}"), "the sidecar's state"),
        (
            format!("{bfb} doctor --key 42 --identity {identity} {domain}"),
            "asks every upstream for real",
        ),
    ];
    list_steps(&steps)
}

/// Where a sidecar is, as `host:port` or `unix:/path`.
pub(crate) struct SidecarAddresses {
    pub(crate) listen: String,
    pub(crate) admin: String,
}

/// The same for a fleet, of which the first two are at `members`; `socket` is where its Redis is,
/// if the demo started it.
pub(crate) fn suggest_for_fleet(
    bfb: &str,
    control: SocketAddr,
    members: &[SidecarAddresses],
    socket: Option<&Path>,
) -> String {
    let at = |flag: &str, usual: &str, address: &str| {
        if address == usual { String::new() } else { format!(" --{flag} {address}") }
    };
    let (Some(first), Some(last)) = (members.first(), members.last()) else { return String::new() };
    let mut steps = vec![
        (format!("curl -i http://{}/v2/customers/42", last.listen), "see `Cache-Status`"),
        (format!("curl -X POST http://{control}/favorites/change/42"), "customer 42 changes"),
        (
            format!(
                "{bfb} invalidate --wait{} customer 42",
                at("admin", "localhost:7071", &first.admin)
            ),
            "all hear it",
        ),
        (
            format!("{bfb} tail --keys{}", at("admin", "localhost:7071", &last.admin)),
            "what happens in one",
        ),
        (format!("{bfb} status{}", at("admin", "localhost:7071", &last.admin)), "how one stands"),
    ];
    if let Some(socket) = socket {
        let hint = r#"'bfb:{demo/customer}:invalidate' '{"keys": ["42"]}'"#;
        steps.push((
            format!("redis-cli -s {} PUBLISH {hint}", socket.display()),
            "a hint, from any program",
        ));
    }
    list_steps(&steps)
}

fn list_steps(steps: &[(String, &str)]) -> String {
    // The last is longer than any terminal: it does not set the column.
    let width =
        steps.iter().rev().skip(1).map(|(command, _)| command.len()).max().unwrap_or_default();
    let mut text = "try next:\n".to_owned();
    for (command, purpose) in steps {
        let _ = writeln!(text, "  {command:width$}  # {purpose}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_can_be_pasted_as_it_stands() {
        let at = |listen: &str, admin: &str| SidecarAddresses {
            listen: listen.to_owned(),
            admin: admin.to_owned(),
        };
        let usual = at("localhost:7070", "127.0.0.1:7071");
        let text =
            suggest("bfb", ([127, 0, 0, 1], 7079).into(), &usual, Path::new("/tmp/x/identity"));
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines.len(), 9);
        for line in lines {
            let (command, why) = line.split_once("  # ").expect("a command and why");
            assert!(
                command.trim().starts_with("curl ") || command.trim().starts_with("bfb "),
                "{line}"
            );
            assert!(!why.is_empty());
        }
        assert!(text.contains("bfb get --explain customer 42"));
        let elsewhere = at("127.0.0.1:8080", "127.0.0.1:8081");
        let text = suggest("bfb", ([127, 0, 0, 1], 1).into(), &elsewhere, Path::new("/x"));
        assert!(
            text.contains("bfb get --listen 127.0.0.1:8080 --admin 127.0.0.1:8081 --explain"),
            "{text}"
        );
        assert!(text.contains("bfb status --admin 127.0.0.1:8081"), "{text}");
    }
    #[test]
    fn the_lines_of_a_fleet_name_ports_only_where_they_are_not_the_usual_ones() {
        let at = |listen: &str, admin: &str| SidecarAddresses {
            listen: listen.to_owned(),
            admin: admin.to_owned(),
        };
        let members =
            [at("localhost:7070", "localhost:7071"), at("localhost:4001", "localhost:4002")];
        let text = suggest_for_fleet(
            "bfb",
            ([127, 0, 0, 1], 7079).into(),
            &members,
            Some(Path::new("/tmp/x/redis.sock")),
        );
        for line in [
            "curl -i http://localhost:4001/v2/customers/42 ",
            "bfb invalidate --wait customer 42 ",
            "bfb tail --keys --admin localhost:4002 ",
            concat!(
                "redis-cli -s /tmp/x/redis.sock PUBLISH 'bfb:{demo/customer}:invalidate' ",
                r#"'{"keys": ["42"]}' "#,
            ),
        ] {
            assert!(text.contains(line), "no `{line}`\n{text}");
        }
        assert!(
            !suggest_for_fleet("bfb", ([127, 0, 0, 1], 1).into(), &members[..1], None)
                .contains("redis-cli")
        );
    }
}
