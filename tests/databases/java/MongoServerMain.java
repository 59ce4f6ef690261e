import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.List;

/**
 * mongo-java-server on a port of loopback, over TLS with the tls.crt and tls.key of a folder: its own program has neither. It can
 * ask for no client certificate.
 */
public final class MongoServerMain {
    /** It says 4.2, to which drivers of today do not talk; what they need of 5.0 to read, it has. */
    private static final MongoVersion VERSION = new MongoVersion() {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(5, 0, 0);
        }

        @Override
        public int getWireVersion() {
            return 13;
        }
    };

    /** The port, and the folder. */
    public static void main(String[] args) throws Exception {
        MongoServer server = new MongoServer(new MemoryBackend().version(VERSION));
        Path identity = Path.of(args[1]);
        server.enableSsl(key(identity.resolve("tls.key")), null, certificate(identity.resolve("tls.crt")));
        server.bind("127.0.0.1", Integer.parseInt(args[0]));
        System.err.println("listening on " + server.getLocalAddress());
    }

    private static X509Certificate certificate(Path path) throws Exception {
        try (InputStream pem = Files.newInputStream(path)) {
            return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(pem);
        }
    }

    private static PrivateKey key(Path path) throws Exception {
        String base64 = Files.readString(path).replaceAll("-----[A-Z ]+-----|\\s", "");
        PKCS8EncodedKeySpec encoded = new PKCS8EncodedKeySpec(Base64.getDecoder().decode(base64));
        return KeyFactory.getInstance("EC").generatePrivate(encoded);
    }
}
