//! What a handler's arguments say about its endpoint: who may ask, what the body looks like, what
//! can go wrong with them. They are what is enforced, so that this cannot be forgotten or be wrong.

use axum::extract::{OriginalUri, Path, RawQuery, Request, State};
use http::HeaderMap;
use protocol::ErrorType;

use super::Shape;
use crate::api::{
    answer::Answer,
    body::{Decoded, Payload, Repeatable},
    caller::{Admin, Anyone, ServiceOnly, Submitter, User},
    toll::Toll,
    webhooks::{Named, OfService, Own},
};

/// A body as the description names it.
#[derive(Clone, Debug)]
pub struct Payloaded {
    /// The name of its schema.
    pub name: &'static str,
    /// What it looks like.
    pub shape: Shape,
    /// Most bytes.
    pub bytes_max: usize,
    /// Whether it may be left out.
    pub optional: bool,
}

/// What the arguments said.
#[derive(Debug, Default)]
pub struct Told {
    /// Whether users may get as far as the handler; none where the caller is not asked.
    pub users: Option<bool>,
    /// The same of services.
    pub services: Option<bool>,
    /// Whether it is for admins: their role must reach.
    pub admins: bool,
    /// What the body looks like.
    pub body: Option<Payloaded>,
    /// Whether it may carry an `Idempotency-Key`.
    pub repeatable: bool,
    /// Refusals that the arguments make.
    pub refusals: Vec<ErrorType>,
}

impl Told {
    fn caller(&mut self, users: bool, services: bool) {
        self.users = Some(users);
        self.services = Some(services);
        self.refusals.extend([
            ErrorType::Unauthorized,
            ErrorType::Forbidden,
            ErrorType::Unavailable,
        ]);
    }

    /// A body of this shape.
    pub(crate) fn body(&mut self, body: Payloaded) {
        self.body = Some(body);
        self.refusals.extend([
            ErrorType::RequestTimeout,
            ErrorType::PayloadTooLarge,
            ErrorType::UnsupportedMediaType,
            ErrorType::Invalid,
        ]);
    }

    /// It may carry an `Idempotency-Key`.
    pub(crate) fn repeatable(&mut self) {
        self.repeatable = true;
        self.refusals.extend([ErrorType::IdempotencyInProgress, ErrorType::QuotaExceeded]);
    }
}

/// An argument of a handler.
pub trait Part {
    /// Says what it says. Most say nothing.
    fn tell(_told: &mut Told) {}
}

/// All arguments of a handler, as axum's `Handler` has them.
pub trait Parts {
    /// What they say.
    fn told() -> Told;
}

macro_rules! parts {
    ($($part:ident)*) => {
        impl<M, $($part: Part),*> Parts for (M, $($part,)*) {
            fn told() -> Told {
                #[allow(unused_mut, reason = "a handler may have no arguments")]
                let mut told = Told::default();
                $($part::tell(&mut told);)*
                told
            }
        }
    };
}

parts!();
parts!(A);
parts!(A B);
parts!(A B C);
parts!(A B C D);
parts!(A B C D E);
parts!(A B C D E F);
parts!(A B C D E F G);
parts!(A B C D E F G H);

impl<S> Part for State<S> {}
impl Part for HeaderMap {}
impl Part for http::Method {}
impl Part for Request {}
impl Part for RawQuery {}
impl Part for Toll {}

impl Part for Answer {
    fn tell(told: &mut Told) {
        told.refusals.push(ErrorType::NotAcceptable);
    }
}

impl Part for Anyone {
    fn tell(told: &mut Told) {
        told.caller(true, true);
    }
}

impl Part for ServiceOnly {
    fn tell(told: &mut Told) {
        told.caller(false, true);
    }
}

impl Part for Own {
    fn tell(told: &mut Told) {
        told.caller(false, true);
    }
}

/// The service in the path is looked up with it.
impl Part for OfService {
    fn tell(told: &mut Told) {
        Admin::tell(told);
        Path::<()>::tell(told);
    }
}

impl<A: Part> Part for Submitter<A> {
    fn tell(told: &mut Told) {
        A::tell(told);
    }
}

impl Part for User {
    fn tell(told: &mut Told) {
        told.caller(true, false);
    }
}

/// Of the users, those with the role `system_admin`.
impl Part for Admin {
    fn tell(told: &mut Told) {
        told.admins = true;
        told.caller(true, false);
    }
}

/// The query is read by `Parameters`, which refuses what it does not know.
impl Part for OriginalUri {
    fn tell(told: &mut Told) {
        told.refusals.push(ErrorType::Invalid);
    }
}

/// A path that names something which may not be there. A name that is the next word of another path,
/// as in `/messages/send`, leads there, where the method may be another.
impl<T> Part for Path<T> {
    fn tell(told: &mut Told) {
        told.refusals.extend([ErrorType::NotFound, ErrorType::MethodNotAllowed]);
    }
}

/// A part of it by name.
impl<T> Part for Named<T> {
    fn tell(told: &mut Told) {
        Path::<T>::tell(told);
    }
}

impl<T: Payload> Part for Decoded<T> {
    fn tell(told: &mut Told) {
        let whole = std::any::type_name::<T>();
        told.body(Payloaded {
            name: whole.rsplit("::").next().unwrap_or(whole),
            shape: T::SHAPE,
            bytes_max: T::BYTES_MAX,
            optional: T::OPTIONAL,
        });
    }
}

/// A body that may be sent again under its `Idempotency-Key`.
impl<T: Payload> Part for Repeatable<T> {
    fn tell(told: &mut Told) {
        Decoded::<T>::tell(told);
        told.repeatable();
    }
}

/// What a handler looks at only after it has asked something else.
impl<T: Part, E> Part for Result<T, E> {
    fn tell(told: &mut Told) {
        T::tell(told);
    }
}
