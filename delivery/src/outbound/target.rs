//! A URL that was checked, and what a request needs of it.

use std::net::IpAddr;

use http::{HeaderValue, uri::PathAndQuery};
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Position, Url};

use super::address::Allowed;

/// Longest URL, in bytes, as it is kept: with its host in punycode and its path escaped.
pub const URL_BYTES_MAX: usize = 2_048;

/// A checked URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    url: Url,
    pub(crate) host: TargetHost,
    pub(crate) port: u16,
    /// Whose certificate the other side must show; none without TLS.
    pub(crate) tls: Option<ServerName<'static>>,
    /// What stands in `Host`.
    pub(crate) authority: HeaderValue,
    pub(crate) path: PathAndQuery,
}

/// A host, by name or by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetHost {
    Name(String),
    Address(IpAddr),
}

impl Target {
    /// Reads a URL the way browsers do: `http://2130706433/` is `http://127.0.0.1/`, and is judged
    /// as that. The error is a sentence about the field.
    pub(crate) fn parse(text: &str, allowed: &Allowed) -> Result<Self, String> {
        let wrong = |problem: &str| Err(problem.to_owned());
        if text.len() > URL_BYTES_MAX {
            return Err(format!("must have at most {URL_BYTES_MAX} bytes, has {}", text.len()));
        }
        let Ok(url) = Url::parse(text) else {
            return wrong("must be a URL such as https://example.com/hooks");
        };
        let is_tls = match url.scheme() {
            "https" => true,
            "http" if allowed.permits_plain() => false,
            "http" if matches!(allowed, Allowed::Named(_)) => {
                return wrong(
                    "must begin with https://; http:// is for networks in WEBHOOK_ALLOWED_NETWORKS",
                );
            }
            _ => return wrong("must begin with https://"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("must not contain a user name or password");
        }
        if url.fragment().is_some() {
            return wrong("must not contain a fragment (#)");
        }
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(format!("must have at most {URL_BYTES_MAX} bytes when it is escaped"));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => TargetHost::Name(name.to_owned()),
            Some(Host::Ipv4(address)) => TargetHost::Address(address.into()),
            Some(Host::Ipv6(address)) => TargetHost::Address(address.into()),
            None => return wrong("must name a host"),
        };
        let tls = match &host {
            _ if !is_tls => None,
            TargetHost::Address(address) => Some(ServerName::from(*address)),
            TargetHost::Name(name) => match ServerName::try_from(name.clone()) {
                Ok(name) => Some(name),
                Err(_) => return wrong("has a host that no certificate can be for"),
            },
        };
        if let TargetHost::Address(address) = host
            && !allowed.permits(address, is_tls)
        {
            return wrong(match allowed {
                Allowed::Named(_) if is_tls => {
                    "must be a public address, or one of WEBHOOK_ALLOWED_NETWORKS"
                }
                Allowed::Named(_) => {
                    "must be an address of WEBHOOK_ALLOWED_NETWORKS, or begin with https://"
                }
                Allowed::Configured => "must begin with https://, because its address is public",
                Allowed::Found => "must be a public address",
            });
        }
        let authority = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]);
        let path = PathAndQuery::try_from(&url[Position::BeforePath..Position::AfterQuery]);
        let (Ok(authority), Ok(path), Some(port)) = (authority, path, url.port_or_known_default())
        else {
            return wrong("has characters that HTTP cannot carry");
        };
        Ok(Self { url, host, port, tls, authority, path })
    }

    /// The URL, taken apart.
    pub(super) const fn url(&self) -> &Url {
        &self.url
    }

    /// The URL, as it is kept and shown.
    pub(crate) fn as_str(&self) -> &str {
        self.url.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, allowed: &str) -> Result<Target, String> {
        Target::parse(text, &Allowed::Named(allowed.parse().unwrap()))
    }

    #[test]
    fn a_url_is_taken_apart() {
        let target = parse("HTTPS://Hooks.例子.cn:8443/a b/?q=张#", "").unwrap_err();
        assert!(target.contains("fragment"), "{target}");
        let target = parse("HTTPS://Hooks.例子.cn:8443/a b/?q=张", "").unwrap();
        assert_eq!(target.as_str(), "https://hooks.xn--fsqu00a.cn:8443/a%20b/?q=%E5%BC%A0");
        assert_eq!(target.host, TargetHost::Name("hooks.xn--fsqu00a.cn".to_owned()));
        assert_eq!(
            (target.authority.to_str().unwrap(), target.port),
            ("hooks.xn--fsqu00a.cn:8443", 8443)
        );
        assert_eq!(target.path.as_str(), "/a%20b/?q=%E5%BC%A0");
        let plain = parse("http://[fd00::1]/", "fd00::/8").unwrap();
        assert_eq!((plain.port, plain.tls.is_none(), plain.path.as_str()), (80, true, "/"));
        assert_eq!(plain.authority, "[fd00::1]");
        assert_eq!(parse("https://example.com", "").unwrap().authority, "example.com");
        assert!(parse("https://8.8.8.8/x", "").unwrap().tls.is_some());
    }

    #[test]
    fn what_must_not_be_saved_is_refused_with_a_reason() {
        for (url, says) in [
            ("", "must be a URL"),
            ("example.com/hooks", "must be a URL"),
            ("/hooks", "must be a URL"),
            ("https://", "must be a URL"),
            ("ftp://example.com/", "https://"),
            ("file:///etc/passwd", "https://"),
            ("javascript:alert(1)", "https://"),
            ("gopher://example.com/", "https://"),
            ("http://example.com/", "WEBHOOK_ALLOWED_NETWORKS"),
            ("https://user@example.com/", "user name"),
            ("https://user:secret@example.com/", "password"),
            ("https://:secret@example.com/", "password"),
            ("https://example.com/#top", "fragment"),
            ("https://127.0.0.1/", "public"),
            ("https://2130706433/", "public"),
            ("https://0x7f.1/", "public"),
            ("https://0177.0.0.1/", "public"),
            ("https://127.1/", "public"),
            ("https://①②⑦.0.0.1/", "public"),
            ("https://0/", "public"),
            ("https://[::1]/", "public"),
            ("https://[::ffff:127.0.0.1]/", "public"),
            ("https://[64:ff9b::a00:1]/", "public"),
            ("https://169.254.169.254/latest/meta-data", "public"),
            ("https://10.0.0.1:8443/", "public"),
        ] {
            let problem = parse(url, "").unwrap_err();
            assert!(problem.contains(says), "{url}: {problem}");
            assert!(!problem.contains("secret@"), "{problem}");
        }
        let long = format!("https://example.com/{}", "x".repeat(URL_BYTES_MAX));
        assert!(parse(&long, "").unwrap_err().contains("2048"));
        let grows = format!("https://example.com/{}", "张".repeat(600));
        assert!(parse(&grows, "").unwrap_err().contains("escaped"));
    }

    #[test]
    fn named_networks_may_be_reached_without_tls() {
        assert!(parse("http://127.0.0.1:9000/", "127.0.0.0/8").is_ok());
        assert!(parse("http://hooks.internal/", "10.0.0.0/8").is_ok());
        assert!(parse("http://127.0.0.1:9000/", "10.0.0.0/8").unwrap_err().contains("https://"));
        assert!(parse("http://8.8.8.8/", "10.0.0.0/8").unwrap_err().contains("https://"));
    }
}
