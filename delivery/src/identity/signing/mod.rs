//! Keys that this service signs its tokens with, where it does not do so with the shared secret.

mod pair;

pub(in crate::identity) use pair::Pair;
