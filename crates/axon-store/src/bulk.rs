//! Statements over many rows at once, in few enough sizes that each is prepared only once.

use std::collections::HashMap;

use crate::fault::Fault;
use crate::link::{Link, Row, Sql, Value};

/// The most rows that one statement carries.
const ROWS: usize = 64;

/// A statement with a list of rows in its middle.
#[derive(Debug)]
pub(crate) struct Bulk {
    /// What stands before the list.
    pub(crate) head: &'static str,
    /// How many parameters a row has.
    pub(crate) columns: usize,
    /// What stands after the list.
    pub(crate) tail: &'static str,
}

/// The texts of the statements that were used so far.
#[derive(Debug, Default)]
pub(crate) struct Texts(HashMap<(&'static str, usize), Sql>);

impl Texts {
    fn of(&mut self, link: &Link, bulk: &Bulk, rows: usize) -> Sql {
        let text = || bulk.text(rows, link.is_postgres()).into();
        self.0.entry((bulk.head, rows)).or_insert_with(text).clone()
    }

    /// Carries `bulk` out for `values`, which hold row after row. Returns how many rows changed.
    pub(crate) async fn execute(
        &mut self,
        link: &mut Link,
        bulk: &Bulk,
        values: &[Value],
    ) -> Result<u64, Fault> {
        let mut changed = 0;
        for part in parts(bulk, values) {
            let sql = self.of(link, bulk, part.len() / bulk.columns);
            changed += link.execute(sql, part).await?;
        }
        Ok(changed)
    }

    /// Carries `bulk` out for `values`, which hold row after row. Returns the rows that it gives.
    pub(crate) async fn fetch(
        &mut self,
        link: &mut Link,
        bulk: &Bulk,
        values: &[Value],
    ) -> Result<Vec<Row>, Fault> {
        let mut rows = Vec::new();
        for part in parts(bulk, values) {
            let sql = self.of(link, bulk, part.len() / bulk.columns);
            rows.append(&mut link.fetch(sql, part).await?);
        }
        Ok(rows)
    }
}

impl Bulk {
    fn text(&self, rows: usize, numbered: bool) -> String {
        let mut sql = self.head.to_owned();
        for row in 0..rows {
            sql.push_str(if row == 0 { "(" } else { ",(" });
            for column in 1..=self.columns {
                sql.push_str(if column == 1 { "" } else { "," });
                // SQLite looks names of parameters up one after the other, so there they have none.
                if numbered {
                    sql.push_str(&format!("${}", row * self.columns + column));
                } else {
                    sql.push('?');
                }
            }
            sql.push(')');
        }
        sql.push_str(self.tail);
        sql
    }
}

/// Cuts `values` into parts of 64 rows; the rest into one of a multiple of eight, and what is left.
fn parts<'a>(bulk: &Bulk, values: &'a [Value]) -> impl Iterator<Item = &'a [Value]> {
    let columns = bulk.columns;
    let mut rest = values;
    std::iter::from_fn(move || {
        let rows = rest.len() / columns;
        if rows == 0 {
            return None;
        }
        let size = if rows > 16 { rows.min(ROWS) / 8 * 8 } else { rows };
        let (part, after) = rest.split_at(size * columns);
        rest = after;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_into_few_sizes() {
        let bulk = Bulk { head: "INSERT INTO t VALUES ", columns: 2, tail: "" };
        let sizes = |rows: usize| -> Vec<usize> {
            let values = vec![Value::Int(1); 2 * rows];
            parts(&bulk, &values).map(|part| part.len() / 2).collect()
        };
        assert_eq!(sizes(0), [] as [usize; 0]);
        assert_eq!(sizes(16), [16]);
        assert_eq!(sizes(109), [64, 40, 5]);
        assert_eq!(bulk.text(2, true), "INSERT INTO t VALUES ($1,$2),($3,$4)");
        assert_eq!(bulk.text(2, false), "INSERT INTO t VALUES (?,?),(?,?)");
    }
}
