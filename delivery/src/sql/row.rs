//! Rows as what they stand for.

use std::{error::Error, str::FromStr, vec};

use protocol::Time;
use serde::de::DeserializeOwned;

use super::Value;
use crate::sql::SqlError;

/// A row, whose columns are taken one after the other.
#[derive(Default)]
pub(crate) struct Row(vec::IntoIter<Value<'static>>);

impl FromIterator<Value<'static>> for Row {
    fn from_iter<I: IntoIterator<Item = Value<'static>>>(columns: I) -> Self {
        Self(columns.into_iter().collect::<Vec<_>>().into_iter())
    }
}

fn damaged(error: impl Into<Box<dyn Error + Send + Sync>>) -> SqlError {
    SqlError::Damaged(error.into())
}

impl Row {
    /// All columns.
    pub(crate) fn values(self) -> Vec<Value<'static>> {
        self.0.collect()
    }

    fn next(&mut self) -> Value<'static> {
        self.0.next().unwrap_or(Value::Null)
    }

    pub(crate) fn maybe_int(&mut self) -> Result<Option<i64>, SqlError> {
        match self.next() {
            Value::Null => Ok(None),
            Value::Int(number) => Ok(Some(number)),
            Value::Text(_) | Value::Bytes(_) => Err(damaged("a column has no number")),
        }
    }

    pub(crate) fn int(&mut self) -> Result<i64, SqlError> {
        self.maybe_int()?.ok_or_else(|| damaged("a number is missing"))
    }

    /// A number that cannot be below zero.
    pub(crate) fn count(&mut self) -> Result<u64, SqlError> {
        Ok(self.int()?.unsigned_abs())
    }

    pub(crate) fn maybe_time(&mut self) -> Result<Option<Time>, SqlError> {
        Ok(self.maybe_int()?.map(Time::from_millis))
    }

    pub(crate) fn time(&mut self) -> Result<Time, SqlError> {
        Ok(Time::from_millis(self.int()?))
    }

    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>, SqlError> {
        match self.next() {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text.into_owned())),
            Value::Int(_) | Value::Bytes(_) => Err(damaged("a column has no text")),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, SqlError> {
        self.maybe_text()?.ok_or_else(|| damaged("a text is missing"))
    }

    /// 32 bytes.
    pub(crate) fn hash(&mut self) -> Result<[u8; 32], SqlError> {
        match self.next() {
            Value::Bytes(bytes) => bytes.as_ref().try_into().map_err(damaged),
            Value::Null | Value::Int(_) | Value::Text(_) => Err(damaged("a column has no hash")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, SqlError> {
        match self.next() {
            Value::Bytes(bytes) => Ok(bytes.into_owned()),
            Value::Null | Value::Int(_) | Value::Text(_) => Err(damaged("a column has no bytes")),
        }
    }

    /// A text that can be parsed.
    pub(crate) fn word<T>(&mut self) -> Result<T, SqlError>
    where
        T: FromStr,
        T::Err: Error + Send + Sync + 'static,
    {
        self.text()?.parse().map_err(damaged)
    }

    /// A text that can be parsed, or null.
    pub(crate) fn maybe_word<T>(&mut self) -> Result<Option<T>, SqlError>
    where
        T: FromStr,
        T::Err: Error + Send + Sync + 'static,
    {
        self.maybe_text()?.map(|text| text.parse().map_err(damaged)).transpose()
    }

    /// A JSON document.
    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T, SqlError> {
        serde_json::from_str(&self.text()?).map_err(damaged)
    }

    /// A JSON document, or null.
    pub(crate) fn maybe_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, SqlError> {
        let text = self.maybe_text()?;
        text.map(|text| serde_json::from_str(&text).map_err(damaged)).transpose()
    }
}
