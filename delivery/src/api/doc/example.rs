//! Requests to try, as data: the description shows them, and a test executes every one of them.

use http::Method;

/// Where an example writes this moment, the same one tomorrow is meant: what is to be sent later
/// must lie ahead.
pub const TOMORROW: &str = "2025-01-16T09:30:00Z";

/// Where an example writes this code, and an earlier request of it has kept the secret
/// [`TOTP_SECRET`], the code of this moment is meant (both of RFC 6238, appendix B).
pub const TOTP_NOW: &str = "287082";

/// The secret of an authenticator as examples write it.
pub const TOTP_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// The password of an admin who has logged in, as examples write it and tests make it.
pub const ADMIN_PASSWORD: &str = "correct horse battery staple";

/// Who makes a request of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Somebody without a token.
    Nobody,
    /// The user `user123`.
    User,
    /// The user `root`, with the role `system_admin`.
    Root,
    /// The service `netdrive`: level `system`, may send on behalf of users.
    Service,
    /// The bearer of `ADMIN_TOKEN`.
    Admin,
    /// An admin who has logged in, whose password is [`ADMIN_PASSWORD`].
    SignedIn,
}

impl By {
    /// Its word in the description.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::User => "user",
            Self::Root => "root",
            Self::Service => "service",
            Self::Admin => "admin",
            Self::SignedIn => "signed_in",
        }
    }

    /// Its `Authorization` as a shell would write it.
    #[must_use]
    pub const fn credentials(self) -> Option<&'static str> {
        match self {
            Self::Nobody => None,
            Self::User | Self::Root => Some("Bearer $TOKEN"),
            Self::Service => Some("Service $KEY"),
            Self::Admin => Some("Bearer $ADMIN_TOKEN"),
            Self::SignedIn => Some("Bearer $ADMIN_SESSION"),
        }
    }
}

/// A request that has to be made before an example, to any endpoint.
#[derive(Clone, Debug)]
pub struct Given {
    /// Who makes it.
    pub by: By,
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub path: &'static str,
    /// Its body, as JSON.
    pub body: Option<&'static str>,
    /// What of its answer is needed later: a text that the example writes, and where in the answer
    /// (JSON pointer) the real one stands.
    pub keep: Vec<(&'static str, &'static str)>,
}

impl Given {
    /// A request with a body.
    #[must_use]
    pub const fn post(by: By, path: &'static str, body: &'static str) -> Self {
        Self { by, method: Method::POST, path, body: Some(body), keep: Vec::new() }
    }

    /// A request without one.
    #[must_use]
    pub const fn call(by: By, method: Method, path: &'static str) -> Self {
        Self { by, method, path, body: None, keep: Vec::new() }
    }

    /// Where the example writes `text`, what stands at `pointer` in this answer is meant.
    #[must_use]
    pub fn keep(mut self, text: &'static str, pointer: &'static str) -> Self {
        self.keep.push((text, pointer));
        self
    }
}

/// What an example fills an endpoint's request with.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Values for the parts of its path.
    pub path: Vec<(&'static str, &'static str)>,
    /// Its query, without `?`.
    pub query: &'static str,
    /// Its headers.
    pub headers: Vec<(&'static str, &'static str)>,
    /// Its body, as JSON.
    pub body: Option<&'static str>,
}

/// A request to try.
#[derive(Clone, Debug)]
pub struct Example {
    /// Its name, a slug: unique at its endpoint.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Who makes it.
    pub by: By,
    /// What has to be there.
    pub given: Vec<Given>,
    /// The request.
    pub call: Call,
    /// The status it is answered with.
    pub status: u16,
}

impl Example {
    /// A request that is answered 200.
    #[must_use]
    pub fn new(name: &'static str, about: &'static str, by: By) -> Self {
        Self { name, about, by, given: Vec::new(), call: Call::default(), status: 200 }
    }

    /// After this one.
    #[must_use]
    pub fn after(mut self, given: Given) -> Self {
        self.given.push(given);
        self
    }

    /// With this value for a part of the path.
    #[must_use]
    pub fn path(mut self, name: &'static str, value: &'static str) -> Self {
        self.call.path.push((name, value));
        self
    }

    /// With this query.
    #[must_use]
    pub const fn query(mut self, query: &'static str) -> Self {
        self.call.query = query;
        self
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.call.headers.push((name, value));
        self
    }

    /// With this body, as JSON.
    #[must_use]
    pub const fn body(mut self, body: &'static str) -> Self {
        self.call.body = Some(body);
        self
    }

    /// Answered with another status.
    #[must_use]
    pub const fn answers(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}
