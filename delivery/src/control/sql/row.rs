//! Rows as what they stand for.

use std::{error::Error, str::FromStr, vec};

use protocol::Time;
use serde::de::DeserializeOwned;

use super::Value;
use crate::control::ControlError;

/// A row, whose columns are taken one after the other.
#[derive(Default)]
pub(in crate::control) struct Row(vec::IntoIter<Value<'static>>);

impl FromIterator<Value<'static>> for Row {
    fn from_iter<I: IntoIterator<Item = Value<'static>>>(columns: I) -> Self {
        Self(columns.into_iter().collect::<Vec<_>>().into_iter())
    }
}

fn damaged(error: impl Into<Box<dyn Error + Send + Sync>>) -> ControlError {
    ControlError::Damaged(error.into())
}

impl Row {
    /// All columns.
    pub(in crate::control) fn values(self) -> Vec<Value<'static>> {
        self.0.collect()
    }

    fn next(&mut self) -> Value<'static> {
        self.0.next().unwrap_or(Value::Null)
    }

    pub(in crate::control) fn maybe_int(&mut self) -> Result<Option<i64>, ControlError> {
        match self.next() {
            Value::Null => Ok(None),
            Value::Int(number) => Ok(Some(number)),
            Value::Text(_) | Value::Bytes(_) => Err(damaged("a column has no number")),
        }
    }

    pub(in crate::control) fn int(&mut self) -> Result<i64, ControlError> {
        self.maybe_int()?.ok_or_else(|| damaged("a number is missing"))
    }

    /// A number that cannot be below zero.
    pub(in crate::control) fn count(&mut self) -> Result<u64, ControlError> {
        Ok(self.int()?.unsigned_abs())
    }

    pub(in crate::control) fn maybe_time(&mut self) -> Result<Option<Time>, ControlError> {
        Ok(self.maybe_int()?.map(Time::from_millis))
    }

    pub(in crate::control) fn time(&mut self) -> Result<Time, ControlError> {
        Ok(Time::from_millis(self.int()?))
    }

    pub(in crate::control) fn maybe_text(&mut self) -> Result<Option<String>, ControlError> {
        match self.next() {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text.into_owned())),
            Value::Int(_) | Value::Bytes(_) => Err(damaged("a column has no text")),
        }
    }

    pub(in crate::control) fn text(&mut self) -> Result<String, ControlError> {
        self.maybe_text()?.ok_or_else(|| damaged("a text is missing"))
    }

    /// 32 bytes.
    pub(in crate::control) fn hash(&mut self) -> Result<[u8; 32], ControlError> {
        match self.next() {
            Value::Bytes(bytes) => bytes.as_ref().try_into().map_err(damaged),
            Value::Null | Value::Int(_) | Value::Text(_) => Err(damaged("a column has no hash")),
        }
    }

    /// A text that can be parsed.
    pub(in crate::control) fn word<T>(&mut self) -> Result<T, ControlError>
    where
        T: FromStr,
        T::Err: Error + Send + Sync + 'static,
    {
        self.text()?.parse().map_err(damaged)
    }

    /// A JSON document.
    pub(in crate::control) fn json<T: DeserializeOwned>(&mut self) -> Result<T, ControlError> {
        serde_json::from_str(&self.text()?).map_err(damaged)
    }

    /// A JSON document, or null.
    pub(in crate::control) fn maybe_json<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<T>, ControlError> {
        let text = self.maybe_text()?;
        text.map(|text| serde_json::from_str(&text).map_err(damaged)).transpose()
    }
}
