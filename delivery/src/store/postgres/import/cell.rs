//! Values as columns.

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::super::columns::plain;
use crate::store::portable::Cell;

type Converted = Result<IsNull, Box<dyn std::error::Error + Sync + Send>>;

impl ToSql for Cell {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Converted {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(number) => match *of {
                Type::INT8 => number.to_sql(of, out),
                Type::INT4 => i32::try_from(*number)?.to_sql(of, out),
                Type::INT2 => i16::try_from(*number)?.to_sql(of, out),
                Type::BOOL => (*number != 0).to_sql(of, out),
                _ => Err("a number in a column that takes none".into()),
            },
            Self::Text(text) if *of == Type::TEXT => plain(text).as_ref().to_sql(of, out),
            Self::Bytes(bytes) if *of == Type::BYTEA => bytes.to_sql(of, out),
            Self::Text(_) | Self::Bytes(_) => {
                Err("a value in a column that does not take it".into())
            }
        }
    }

    fn accepts(of: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::INT2, Type::BOOL, Type::TEXT, Type::BYTEA].contains(of)
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fit_their_columns_or_are_refused() {
        let put = |cell: Cell, of: Type| {
            let mut out = BytesMut::new();
            cell.to_sql_checked(&of, &mut out)
                .map(|null| (matches!(null, IsNull::Yes), out.to_vec()))
        };
        assert_eq!(put(Cell::Null, Type::TEXT).unwrap(), (true, vec![]));
        assert_eq!(put(Cell::Int(1), Type::BOOL).unwrap().1, [1]);
        assert_eq!(put(Cell::Int(5), Type::INT2).unwrap().1, [0, 5]);
        assert_eq!(
            put(Cell::Text("a\0b".to_owned()), Type::TEXT).unwrap().1,
            "a\u{FFFD}b".as_bytes()
        );
        assert_eq!(put(Cell::Bytes(vec![0]), Type::BYTEA).unwrap().1, [0]);
        assert!(put(Cell::Int(70_000), Type::INT2).is_err());
        assert!(put(Cell::Text(String::new()), Type::INT8).is_err());
        assert!(put(Cell::Int(1), Type::TEXT).is_err());
        assert!(put(Cell::Int(1), Type::FLOAT8).is_err());
    }
}
