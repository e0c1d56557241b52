//! Certificates for TLS distribution, made anew for each test: good ones, and one for each way to be wrong.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::scratch::Scratch;

/// A CA, and the files of what it signed. It ends with this value.
pub struct Authority {
    key: KeyPair,
    certificate: Certificate,
    directory: Scratch,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the authority of {}", self.file().display())
    }
}

/// A certificate with its key, in one PEM file each.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, of this name.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a certificate");
        let directory = Scratch::new("certificates");
        fs::write(directory.path().join("ca.pem"), certificate.pem()).expect("our own directory");
        Self {
            key,
            certificate,
            directory,
        }
    }

    /// Its certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate for `host`, valid from the year 2020 to the beginning of `until`.
    pub fn sign(&self, name: &str, host: &str, until: i32) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(name, &[host]);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params
            .signed_by(&key, &self.certificate, &self.key)
            .expect("a certificate");
        let path = |what: &str| self.directory.path().join(format!("{name}-{what}.pem"));
        let identity = Identity {
            certificate: path("certificate"),
            key: path("key"),
        };
        fs::write(&identity.certificate, certificate.pem()).expect("our own directory");
        fs::write(&identity.key, key.serialize_pem()).expect("our own directory");
        identity
    }

    /// `ssl_dist_optfile` of a node that shows `own` to whoever connects, and takes only whom this authority signed, by
    /// `versions` of TLS alone. Its probe, which judges no certificate, shows one that is good.
    pub fn options(&self, own: &Identity, versions: &str) -> PathBuf {
        let quoted = |path: &Path| format!("{:?}", path.display().to_string());
        let shown = |who: &Identity| {
            format!(
                "{{certfile, {}}}, {{keyfile, {}}}, {{versions, {versions}}}",
                quoted(&who.certificate),
                quoted(&who.key)
            )
        };
        let text = format!(
            "[{{server, [{}, {{cacertfile, {}}}, {{verify, verify_peer}}, {{fail_if_no_peer_cert, true}}]}},
              {{client, [{}, {{verify, verify_none}}]}}].\n",
            shown(own),
            quoted(&self.file()),
            shown(&self.sign("probe", "127.0.0.1", 2100)),
        );
        let file = own.certificate.with_extension("conf");
        fs::write(&file, text).expect("our own directory");
        file
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names that certificates can have");
    // Two certificates of one name would look as if each had signed itself.
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
