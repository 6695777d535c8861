//! A method of a path with its handler and what it tells of itself.

use axum::{
    Router,
    handler::Handler,
    routing::{MethodFilter, MethodRouter, any, on},
};
use http::Method;

use super::{Doc, Parts, Told};

/// What is known of an endpoint without its handler.
pub struct Operation {
    /// Its name among all: for generated clients, and for the recorded answers of its examples.
    pub id: String,
    /// Its method.
    pub method: Method,
    /// Its path, with `{name}` for its parts.
    pub path: &'static str,
    /// What its author says.
    pub doc: Doc,
    /// What its handler's arguments say.
    pub told: Told,
    /// Whether the API's own layer is around it: request ids, limits, metrics, refusals in the
    /// envelope for everything.
    pub observed: bool,
}

/// An endpoint.
pub struct Endpoint<S> {
    /// What is known of it.
    pub operation: Operation,
    /// What it does.
    pub handler: MethodRouter<S>,
}

impl<S: Clone + Send + Sync + 'static> Endpoint<S> {
    /// An endpoint of this method.
    ///
    /// # Panics
    /// For a method that axum has no routes for, such as CONNECT.
    pub fn new<H, T>(
        method: Method,
        path: &'static str,
        id: impl Into<String>,
        handler: H,
        doc: Doc,
    ) -> Self
    where
        H: Handler<T, S>,
        T: Parts + 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("a method of REST");
        let operation =
            Operation { id: id.into(), method, path, doc, told: T::told(), observed: false };
        Self { operation, handler: on(filter, handler) }
    }

    /// As [`Endpoint::new`] with GET, for a handler that refuses other methods in its own words.
    pub fn any<H, T>(path: &'static str, id: impl Into<String>, handler: H, doc: Doc) -> Self
    where
        H: Handler<T, S>,
        T: Parts + 'static,
    {
        let (id, method) = (id.into(), Method::GET);
        let operation = Operation { id, method, path, doc, told: T::told(), observed: false };
        Self { operation, handler: any(handler) }
    }

    /// With the API's own layer around it.
    pub(crate) fn observed(mut self) -> Self {
        self.operation.observed = true;
        self
    }
}

/// The routes of endpoints.
pub fn router<S: Clone + Send + Sync + 'static>(endpoints: Vec<Endpoint<S>>) -> Router<S> {
    endpoints.into_iter().fold(Router::new(), |router, Endpoint { operation, handler }| {
        router.route(operation.path, handler)
    })
}

/// The list of endpoints: `get "/api/v3/messages" => messages::list;`. The description of each is
/// `docs::<handler>()` in the module of the handler; without it the list does not compile. A handler
/// of both ports names the extractor that tells them apart, `sent::edit::<Admin>`, and so does its
/// description.
macro_rules! endpoints {
    ($($method:ident $path:literal => $module:ident :: $handler:ident $(::<$of:ident>)?;)*) => {
        vec![$(
            $crate::api::doc::Endpoint::new(
                endpoints!(@method $method),
                $path,
                endpoints!(@id $module $handler $($of)?),
                $module::$handler $(::<$of>)?,
                $module::docs::$handler $(::<$of>)? (),
            )
            .observed()
        ),*]
    };
    (@method get) => { ::http::Method::GET };
    (@method post) => { ::http::Method::POST };
    (@method put) => { ::http::Method::PUT };
    (@method patch) => { ::http::Method::PATCH };
    (@method delete) => { ::http::Method::DELETE };
    (@id $module:ident $handler:ident Admin) => {
        concat!("admin_", stringify!($module), "_", stringify!($handler))
    };
    (@id $module:ident $handler:ident OfService) => { endpoints!(@id $module $handler Admin) };
    (@id $module:ident $handler:ident $($of:ident)?) => {
        concat!(stringify!($module), "_", stringify!($handler))
    };
}
pub(crate) use endpoints;
