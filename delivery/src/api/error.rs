//! From errors to answers: the one place that decides status and sentence.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use protocol::{ErrorType, FieldProblem, Message, NodeId, Seq};
use schemars::JsonSchema;
use serde::Serialize;

use super::preferences;
use crate::{
    account::AccountError,
    admin::AdminError,
    backup::{BackupError, JobError, RunError},
    channel::ChannelError,
    connections::TooManyAsk,
    control::ControlError,
    deletion::DeletionError,
    identity::AuthError,
    limit::Limited,
    provider::{LoginError, ProviderError},
    send::SendError,
    store::{ChannelInfo, InboxMessage, Pressed, StoreError},
    template::{Template, TemplateError},
    webhook::{DatabaseError, WebhookError},
};

/// When to come back after "too much is waiting": the queues are worked off in less.
const RETRY_AFTER_BUSY: Duration = Duration::from_secs(1);

/// When to come back after "cannot write" and "going down": somebody has to act, or another node
/// has to be found.
const RETRY_AFTER_DOWN: Duration = Duration::from_secs(5);

/// Why a request is not answered with a success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("the body is not what its Content-Type says: {0}")]
    Malformed(String),
    #[error("the body is nested too deeply; at most {0} levels are read")]
    TooDeep(usize),
    #[error("the connection broke before the body's end")]
    BrokenBody,
    #[error("there is nothing here")]
    NoRoute,
    #[error("this path does not know this method")]
    NoMethod,
    #[error("answers are application/json or application/msgpack")]
    NotAcceptable,
    #[error("the body came too slowly; {0:?} are given for all of it")]
    Slow(Duration),
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the Content-Type must be application/json or application/msgpack")]
    ContentType,
    #[error("bodies with a Content-Encoding are not read")]
    ContentEncoding,
    #[error("the request is not valid")]
    Invalid(Vec<FieldProblem>),
    #[error("this is for users: Authorization: Bearer <token>")]
    UsersOnly,
    #[error("this is for services: Authorization: Service <key>")]
    ServicesOnly,
    #[error("a system admin looks after the own tenant only")]
    OtherTenant,
    #[error("this needs the admin token, or an admin for all tenants")]
    TokenOnly,
    #[error("the token's scope says read: this needs one that may write")]
    ReadOnly,
    #[error("there is no such user")]
    NoUser,
    #[error("there is no such connection")]
    NoConnection,
    /// None of them is known by name where the way to all others is away.
    #[error("it was not found, but {} did not answer; try again", names(.0))]
    NodesMissing(Vec<NodeId>),
    #[error("the position is not kept any more; begin again from GET /api/v3/messages")]
    Resync { min_seq: Seq, head: Seq },
    #[error("this node is going down; try again")]
    Draining,
    /// Too many entries wait for the audit log.
    #[error("changes wait until the audit log can be written")]
    AuditFull,
    #[error("this node is starting and its database is away; try again")]
    Starting,
    #[error("the key was used for another request")]
    KeyReused,
    #[error("a request with this Idempotency-Key is under way; its answer can be had in a moment")]
    KeyRunning,
    #[error("an export of this user is running, or as many as may; come back in a moment")]
    ExportsRunning,
    #[error("as many admins watch this node as may; come back in a moment")]
    TooManyWatch,
    #[error("the answer that was stored cannot be read")]
    StoredAnswer(#[source] serde_json::Error),
    #[error("something went wrong here")]
    Panicked,
    #[error(transparent)]
    StoredBody(#[from] protocol::message::BodyError),
    #[error(transparent)]
    Asked(#[from] TooManyAsk),
    #[error(transparent)]
    Limited(#[from] Limited),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Webhook(#[from] WebhookError),
}

impl From<DeletionError> for ApiError {
    fn from(error: DeletionError) -> Self {
        match error {
            DeletionError::Account(error) => error.into(),
            DeletionError::Store(error) => error.into(),
            DeletionError::Backup(error) => error.into(),
            DeletionError::Webhook(error) => error.into(),
            DeletionError::Control(error) => error.into(),
        }
    }
}

/// The names of nodes, as words.
fn names(nodes: &[NodeId]) -> String {
    if nodes.is_empty() {
        return "the other nodes".to_owned();
    }
    nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ")
}

impl ApiError {
    /// One field at fault.
    pub(crate) fn field(path: &str, problem: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldProblem { path: path.to_owned(), problem: problem.into() }])
    }

    /// Whether another node has stored a request of the same key meanwhile.
    pub(crate) fn is_key_taken(&self) -> bool {
        let (Self::Store(error) | Self::Send(SendError::Store(error))) = self else { return false };
        matches!(error, StoreError::KeyTaken)
    }

    /// What the caller is told.
    pub(crate) fn failure(&self) -> Failure {
        use ErrorType as T;
        match self {
            Self::Malformed(_) | Self::TooDeep(_) | Self::BrokenBody => {
                self.says(T::MalformedRequest)
            }
            Self::NoRoute => self.says(T::NotFound),
            Self::NoMethod => self.says(T::MethodNotAllowed),
            Self::NotAcceptable => self.says(T::NotAcceptable),
            Self::Slow(_) => self.says(T::RequestTimeout).closing(),
            Self::TooLarge(_) => self.says(T::PayloadTooLarge).closing(),
            Self::ContentType | Self::ContentEncoding => self.says(T::UnsupportedMediaType),
            Self::Invalid(fields) => invalid(fields),
            Self::UsersOnly
            | Self::ServicesOnly
            | Self::OtherTenant
            | Self::TokenOnly
            | Self::ReadOnly => self.says(T::Forbidden),
            Self::NoUser | Self::NoConnection => self.says(T::NotFound),
            Self::NodesMissing(_) | Self::Asked(_) | Self::ExportsRunning | Self::TooManyWatch => {
                self.says(T::Unavailable).retry(RETRY_AFTER_BUSY)
            }
            Self::Resync { min_seq, head } => self
                .says(T::ResyncRequired)
                .with(FailureData::Resync { min_seq: *min_seq, head: *head }),
            Self::Starting => self.says(T::Unavailable).retry(RETRY_AFTER_DOWN),
            Self::Draining => self.says(T::Unavailable).retry(RETRY_AFTER_DOWN).closing(),
            Self::AuditFull => self.says(T::Unavailable).retry(RETRY_AFTER_DOWN),
            Self::KeyReused => self.says(T::Invalid).at("Idempotency-Key"),
            Self::KeyRunning => self.says(T::IdempotencyInProgress).retry(RETRY_AFTER_BUSY),
            Self::Panicked | Self::StoredBody(_) | Self::StoredAnswer(_) => internal(),
            Self::Limited(limited) => {
                let after = Duration::from_secs(limited.retry_after_seconds());
                self.says(T::RateLimited).retry(after)
            }
            Self::Auth(error) => match error {
                AuthError::Missing
                | AuthError::UnknownScheme
                | AuthError::BadToken
                | AuthError::Expired
                | AuthError::NotYet
                | AuthError::Revoked
                | AuthError::BadTicket
                | AuthError::BadKey => self.says(T::Unauthorized),
                AuthError::KeyAddress(_)
                | AuthError::ServiceInactive(_)
                | AuthError::NotAdmin
                | AuthError::Role(_)
                | AuthError::UserDisabled => self.says(T::Forbidden),
                AuthError::NoKeys | AuthError::Unavailable(_) => {
                    self.says(T::Unavailable).retry(RETRY_AFTER_DOWN)
                }
            },
            Self::Send(SendError::Invalid(fields)) => invalid(fields),
            Self::Send(SendError::Refused(_)) => self.says(T::Forbidden),
            Self::Send(SendError::Quota(reached)) => {
                self.says(T::QuotaExceeded).retry(reached.retry_after)
            }
            Self::Send(SendError::Templates(_)) => {
                self.says(T::Unavailable).retry(RETRY_AFTER_DOWN)
            }
            Self::Send(SendError::Store(error)) | Self::Store(error) => store(error),
            Self::Account(error) => self.account(error),
            Self::Login(error) => self.login(error),
            Self::Backup(error) => self.backup(error),
            Self::Job(error) => self.job(error),
            Self::Run(error) => self.run(error),
            Self::Admin(error) => self.admin(error),
            Self::Control(error) => self.control(error),
            Self::Template(error) => self.template(error),
            Self::Channel(error) => self.channel(error),
            Self::Webhook(error) => self.webhook(error),
        }
    }

    fn channel(&self, error: &ChannelError) -> Failure {
        use ErrorType as T;
        match error {
            ChannelError::NotFound => self.says(T::NotFound),
            ChannelError::Invalid(fields) => invalid(fields),
            ChannelError::IdTaken(present) => {
                self.says(T::Conflict).with(FailureData::Channel(present.clone())).at("id")
            }
            ChannelError::VersionConflict(present) => {
                self.says(T::VersionConflict).with(FailureData::Channel(present.clone()))
            }
            ChannelError::Closed | ChannelError::Refused(_) => self.says(T::Forbidden),
            ChannelError::Quota(_) => self.says(T::Invalid),
            ChannelError::Store(error) => store(error),
        }
    }

    fn backup(&self, error: &BackupError) -> Failure {
        use ErrorType as T;
        match error {
            BackupError::Store(error) => store(error),
            BackupError::Since { min_seq, head } => self
                .says(T::ResyncRequired)
                .with(FailureData::Resync { min_seq: *min_seq, head: *head }),
            BackupError::Running => self.says(T::RateLimited).retry(RETRY_AFTER_BUSY),
            BackupError::TooLarge(_) | BackupError::Kept(_) | BackupError::Full => {
                self.says(T::InsufficientStorage)
            }
            BackupError::Left
            | BackupError::Io(_)
            | BackupError::Sqlite(_)
            | BackupError::Content(_) => internal(),
        }
    }

    fn job(&self, error: &JobError) -> Failure {
        use ErrorType as T;
        match error {
            JobError::NotFound | JobError::NoFile(_) => self.says(T::NotFound),
            JobError::TooMany | JobError::NodeFull => {
                self.says(T::RateLimited).retry(RETRY_AFTER_DOWN)
            }
            JobError::NotReady => self.says(T::Conflict).retry(RETRY_AFTER_BUSY),
            JobError::Forged | JobError::LinkExpired => self.says(T::Forbidden),
            JobError::Range(bytes) => {
                let failure = self.says(T::RangeNotSatisfiable);
                Failure { length: Some(*bytes), ..failure }
            }
            JobError::Downloads => self.says(T::Unavailable).retry(RETRY_AFTER_BUSY),
            JobError::Backup(error) => self.backup(error),
        }
    }

    fn run(&self, error: &RunError) -> Failure {
        use ErrorType as T;
        match error {
            RunError::UnderWay => self.says(T::Conflict).retry(RETRY_AFTER_DOWN),
            RunError::NoRun(_) => self.says(T::NotFound),
            RunError::Full(_) => self.says(T::InsufficientStorage),
            // What it says of the network inside is for the log.
            RunError::Place { .. } | RunError::TurnLost | RunError::Control(_) => {
                let away =
                    "where backups are kept, or the database, cannot be used now; the log says why";
                Failure::new(T::Unavailable, away).retry(RETRY_AFTER_DOWN)
            }
            RunError::Store(error) => store(error),
            RunError::Backup(error) => self.backup(error),
            RunError::Damaged(..)
            | RunError::Read { .. }
            | RunError::Beside(_)
            | RunError::Io(_) => internal(),
        }
    }

    fn account(&self, error: &AccountError) -> Failure {
        use ErrorType as T;
        match error {
            AccountError::BadRefresh | AccountError::Reused | AccountError::Expired => {
                self.says(T::Unauthorized)
            }
            AccountError::UserDisabled | AccountError::OtherTenant | AccountError::StaleLogin => {
                self.says(T::Forbidden)
            }
            AccountError::NoSession | AccountError::NoIdentity => self.says(T::NotFound),
            AccountError::LinkedElsewhere
            | AccountError::LastIdentity
            | AccountError::BeingDeleted => self.says(T::Conflict),
            AccountError::PreferencesChanged(kept) => self
                .says(T::VersionConflict)
                .with(FailureData::Preferences(Box::new((**kept).clone().into()))),
            AccountError::Nameless => self.says(T::Invalid).at("Authorization"),
            AccountError::TooManyIdentities => self.says(T::Invalid),
            AccountError::Control(error) => self.control(error),
        }
    }

    fn login(&self, error: &LoginError) -> Failure {
        use ErrorType as T;
        match error {
            LoginError::NoProvider => self.says(T::NotFound),
            LoginError::State | LoginError::Code => self.says(T::Unauthorized),
            LoginError::NoTenant => self.says(T::Forbidden),
            LoginError::Busy => self.says(T::Unavailable).retry(RETRY_AFTER_BUSY),
            LoginError::Provider(error) => match error {
                ProviderError::Refused { .. } => self.says(T::Unauthorized),
                ProviderError::NotAllowed { .. } => self.says(T::Forbidden),
                ProviderError::Unreachable { .. } | ProviderError::Slow { .. } => {
                    self.says(T::Unavailable).retry(RETRY_AFTER_DOWN)
                }
                ProviderError::Misconfigured { .. }
                | ProviderError::Nonsense { .. }
                | ProviderError::NotBelieved { .. }
                | ProviderError::Address { .. } => self.says(T::ProviderFailed),
            },
            LoginError::Account(error) => self.account(error),
        }
    }

    fn admin(&self, error: &AdminError) -> Failure {
        use ErrorType as T;
        match error {
            AdminError::NotFound => self.says(T::NotFound),
            AdminError::Invalid(fields) => invalid(fields),
            AdminError::NameTaken => self.says(T::Invalid).at("username"),
            AdminError::EmailTaken => self.says(T::Invalid).at("email"),
            AdminError::BadPassword => self.says(T::Invalid).at("password"),
            AdminError::NoEnrolment => self.says(T::Invalid).at("challenge"),
            AdminError::BadFirstCode => self.says(T::Invalid).at("code"),
            AdminError::TooMany | AdminError::NoSecondFactor => self.says(T::Invalid),
            AdminError::NotKnown
            | AdminError::Disabled
            | AdminError::NoAccount
            | AdminError::NoPassword => self.says(T::Forbidden),
            AdminError::BadLogin | AdminError::BadChallenge | AdminError::BadCode => {
                self.says(T::Unauthorized)
            }
            AdminError::Guarded(guarded) => {
                let seconds = guarded.wait.as_millis().div_ceil(1_000);
                let after = Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX));
                self.says(T::RateLimited).retry(after)
            }
            AdminError::Busy => self.says(T::Unavailable).retry(RETRY_AFTER_BUSY),
            AdminError::Control(error) => self.control(error),
        }
    }

    fn control(&self, error: &ControlError) -> Failure {
        use ErrorType as T;
        match error {
            ControlError::NotFound | ControlError::NoSettingsVersion => self.says(T::NotFound),
            ControlError::SettingsChanged(_) => self.says(T::VersionConflict),
            ControlError::Invalid(fields) => invalid(fields),
            ControlError::IdTaken => self.says(T::Invalid).at("id"),
            ControlError::TooManyServices
            | ControlError::TooManyKeys
            | ControlError::TooManyTenants
            | ControlError::KeyExpired
            | ControlError::KeyReplaced(_)
            | ControlError::Template(_) => self.says(T::Invalid),
            ControlError::Transition { .. } => self.says(T::Invalid).at("status"),
            ControlError::ExpiryInPast => self.says(T::Invalid).at("expires_at"),
            ControlError::Busy => self.says(T::Unavailable).retry(RETRY_AFTER_BUSY),
            ControlError::Unavailable(_) | ControlError::Unknown(_) => {
                self.says(T::Unavailable).retry(RETRY_AFTER_DOWN)
            }
            ControlError::UnknownVersion { .. }
            | ControlError::MigrationChanged(_)
            | ControlError::Document(_)
            | ControlError::Damaged(_)
            | ControlError::Sqlite(_)
            | ControlError::Postgres(_)
            | ControlError::Io(_) => internal(),
        }
    }

    fn template(&self, error: &TemplateError) -> Failure {
        use ErrorType as T;
        match error {
            TemplateError::NotFound => self.says(T::NotFound),
            TemplateError::BuiltIn | TemplateError::Refused(_) => self.says(T::Forbidden),
            TemplateError::Invalid(fields) => invalid(fields),
            TemplateError::IdTaken(current) | TemplateError::VersionConflict(current) => {
                self.says(T::VersionConflict).with(FailureData::Template(current.clone()))
            }
            TemplateError::IdWasAnothers => self.says(T::Invalid).at("id"),
            TemplateError::Control(error) => self.control(error),
        }
    }

    fn webhook(&self, error: &WebhookError) -> Failure {
        use ErrorType as T;
        match error {
            WebhookError::NotFound => self.says(T::NotFound),
            WebhookError::Invalid(fields) => invalid(fields),
            WebhookError::TooMany => self.says(T::Invalid),
            WebhookError::Disabled => self.says(T::Invalid).at("status"),
            WebhookError::DisabledByAdmin => self.says(T::Forbidden),
            WebhookError::TooManyTests => self.says(T::Unavailable).retry(RETRY_AFTER_BUSY),
            WebhookError::Unknown(_)
            | WebhookError::Database(DatabaseError::Unavailable(_) | DatabaseError::Unknown(_)) => {
                self.says(T::Unavailable).retry(RETRY_AFTER_DOWN)
            }
            WebhookError::NotWritable(_) => {
                Failure::new(T::Unavailable, "nothing can be stored now; try again")
                    .retry(RETRY_AFTER_DOWN)
            }
            WebhookError::Closed => {
                Failure::new(T::Unavailable, "this node is going down; try again")
                    .retry(RETRY_AFTER_DOWN)
                    .closing()
            }
            WebhookError::Database(DatabaseError::Busy) => {
                self.says(T::Unavailable).retry(RETRY_AFTER_BUSY)
            }
            WebhookError::Database(
                DatabaseError::Damaged(_)
                | DatabaseError::UnknownVersion { .. }
                | DatabaseError::MigrationChanged(_)
                | DatabaseError::Sqlite(_)
                | DatabaseError::Postgres(_)
                | DatabaseError::Io(_),
            )
            | WebhookError::Io(_)
            | WebhookError::Tls(_) => internal(),
        }
    }

    fn says(&self, kind: ErrorType) -> Failure {
        Failure::new(kind, self.to_string())
    }
}

fn invalid(fields: &[FieldProblem]) -> Failure {
    let message = match fields {
        [one] => format!("{} {}", one.path, one.problem),
        [first, rest @ ..] => format!("{} {} (and {} more)", first.path, first.problem, rest.len()),
        [] => "the request is not valid".to_owned(),
    };
    Failure { fields: fields.to_vec(), ..Failure::new(ErrorType::Invalid, message) }
}

/// Says nothing of what is inside: the log does.
fn internal() -> Failure {
    Failure::new(
        ErrorType::Internal,
        "something went wrong here; the request id finds it in the log",
    )
}

fn store(error: &StoreError) -> Failure {
    match error {
        StoreError::NotFound => Failure::new(ErrorType::NotFound, "there is no such message"),
        StoreError::Conflict(_) => Failure::new(ErrorType::Conflict, error.to_string()),
        // Where its answer cannot be found at once it can be in a moment.
        StoreError::KeyTaken => ApiError::KeyRunning.failure(),
        StoreError::Raced => {
            Failure::new(ErrorType::Unavailable, error.to_string()).retry(RETRY_AFTER_BUSY)
        }
        StoreError::Limit(_) => Failure::new(ErrorType::Invalid, error.to_string()),
        StoreError::VersionConflict(current) => {
            let failure = Failure::new(ErrorType::VersionConflict, error.to_string());
            match message(current) {
                Ok(current) => failure.with(FailureData::Message(Box::new(current))),
                Err(_) => internal(),
            }
        }
        StoreError::Busy(why) => Failure::new(ErrorType::Unavailable, format!("{why}; try again"))
            .retry(RETRY_AFTER_BUSY),
        StoreError::NotWritable(_) => {
            Failure::new(ErrorType::Unavailable, "nothing can be stored now; try again")
                .retry(RETRY_AFTER_DOWN)
        }
        StoreError::Closing => {
            Failure::new(ErrorType::Unavailable, "this node is going down; try again")
                .retry(RETRY_AFTER_DOWN)
                .closing()
        }
        StoreError::Damaged(_) => internal(),
    }
}

/// A message as answers carry it: as in frames, and which of its buttons were pressed, where any
/// were.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "InboxMessage")]
pub(crate) struct Shown {
    #[serde(flatten)]
    message: Message,
    /// Buttons that were pressed, where any were.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pressed: Vec<Pressed>,
}

/// A stored message as answers carry it.
pub(crate) fn message(stored: &InboxMessage) -> Result<Shown, protocol::message::BodyError> {
    let message = Message { state: stored.state, fields: stored.body.fields()? };
    Ok(Shown { message, pressed: stored.pressed.clone() })
}

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorType,
    pub(crate) message: Cow<'static, str>,
    pub(crate) fields: Vec<FieldProblem>,
    pub(crate) data: Option<FailureData>,
    pub(crate) retry_after: Option<Duration>,
    /// How long the thing is of which a range was asked for.
    pub(crate) length: Option<u64>,
    /// Whether the connection ends with this answer: its body was not read, or the node goes down.
    pub(crate) close: bool,
}

/// The `data` of a failure that says how things stand.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum FailureData {
    Message(Box<Shown>),
    Template(Box<Template>),
    Channel(Box<ChannelInfo>),
    Preferences(Box<preferences::Shown>),
    Resync { min_seq: Seq, head: Seq },
}

impl Failure {
    fn new(kind: ErrorType, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            fields: Vec::new(),
            data: None,
            retry_after: None,
            length: None,
            close: false,
        }
    }

    fn retry(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    fn with(mut self, data: FailureData) -> Self {
        self.data = Some(data);
        self
    }

    fn at(mut self, path: &str) -> Self {
        let problem = self.message.clone().into_owned();
        self.fields.push(FieldProblem { path: path.to_owned(), problem });
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.status()).expect("error types have valid statuses")
    }

    /// Headers beside the content type.
    pub(crate) fn headers(&self, headers: &mut http::HeaderMap) {
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, after.as_secs().into());
        }
        if let Some(length) = self.length {
            let range = HeaderValue::try_from(format!("bytes */{length}"));
            headers.insert(header::CONTENT_RANGE, range.expect("digits"));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.kind == ErrorType::Unauthorized {
            let schemes = HeaderValue::from_static("Bearer, Service");
            headers.insert(header::WWW_AUTHENTICATE, schemes);
        }
    }
}

/// Carries an error from a handler to [`super::observe`], which knows the request's id and codec.
#[derive(Clone, Debug)]
pub(crate) struct Failed(pub(crate) Arc<ApiError>);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.failure().status().into_response();
        response.extensions_mut().insert(Failed(Arc::new(self)));
        response
    }
}

#[cfg(test)]
mod tests;
