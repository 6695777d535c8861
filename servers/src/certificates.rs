//! Certificates for servers of this machine.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// A certificate for `localhost` and no other name, by an authority of its own. All of it PEM.
pub struct Certificates {
    /// The authority's own.
    pub ca: String,
    /// The server's.
    pub certificate: String,
    /// The server's key.
    pub key: String,
}

impl Certificates {
    /// New ones: nobody else's are trusted with them.
    #[must_use]
    pub fn make() -> Self {
        let authority = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = parameters.self_signed(&authority).unwrap().pem();
        let issuer = Issuer::new(parameters, authority);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = leaf.signed_by(&key, &issuer).unwrap().pem();
        Self { ca, certificate, key: key.serialize_pem() }
    }
}
