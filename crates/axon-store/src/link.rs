//! One connection, whichever database it leads to.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection, PgRow, PgTypeInfo};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection, Row as _};

use crate::fault::{Doing, Fault};
use crate::source::Source;

/// How long a server may take for one answer, before its link counts as lost.
const ANSWER: Duration = Duration::from_secs(60);

/// How long connecting to a server may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    end: End,
    doing: Doing,
}

#[derive(Debug)]
enum End {
    Sqlite(SqliteConnection),
    Postgres(Box<PgConnection>),
}

/// A parameter of a statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Int(i64),
    NoInt,
    Text(Arc<str>),
    NoText,
    Float(f64),
    Bool(bool),
    /// Nothing, of whatever type the statement wants there.
    Null,
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        value.map_or(Self::NoInt, Self::Int)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        value.map_or(Self::NoText, Self::from)
    }
}

impl From<&Arc<str>> for Value {
    fn from(value: &Arc<str>) -> Self {
        Self::Text(Arc::clone(value))
    }
}

/// The text of a statement.
#[derive(Clone, Debug)]
pub(crate) struct Sql(Arc<str>);

impl From<&str> for Sql {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Sql {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&Sql> for Sql {
    fn from(sql: &Sql) -> Self {
        sql.clone()
    }
}

/// A row that was read.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(crate) fn int(&self, column: usize) -> Result<i64, Fault> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| Fault::of(error, Doing::Reading))
    }

    pub(crate) fn maybe_int(&self, column: usize) -> Result<Option<i64>, Fault> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| Fault::of(error, Doing::Reading))
    }

    pub(crate) fn text(&self, column: usize) -> Result<String, Fault> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| Fault::of(error, Doing::Reading))
    }

    pub(crate) fn maybe_text(&self, column: usize) -> Result<Option<String>, Fault> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| Fault::of(error, Doing::Reading))
    }
}

impl Link {
    /// Connects to what `source` names.
    pub(crate) async fn open(source: &Source, doing: Doing) -> Result<Self, Fault> {
        let end = match source {
            Source::Sqlite(file) => file.options(doing).connect().await.map(End::Sqlite),
            Source::Postgres(server) => {
                let connected = within(CONNECT, server.options().connect()).await;
                connected.map(|link| End::Postgres(Box::new(link)))
            }
        };
        let end = end.map_err(|error| source.fault_of_connecting(error, doing))?;
        Ok(Self { end, doing })
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.end, End::Postgres(_))
    }

    /// Carries out one statement and returns how many rows it changed.
    pub(crate) async fn execute(
        &mut self,
        sql: impl Into<Sql>,
        values: &[Value],
    ) -> Result<u64, Fault> {
        let sql = AssertSqlSafe(sql.into().0);
        let done = match &mut self.end {
            End::Sqlite(link) => sqlx::query_with(sql, to_sqlite(values)?)
                .execute(link)
                .await
                .map(|done| done.rows_affected()),
            End::Postgres(link) => {
                let query = sqlx::query_with(sql, to_postgres(values)?);
                let done = within(ANSWER, query.execute(&mut **link)).await;
                done.map(|done| done.rows_affected())
            }
        };
        done.map_err(|error| Fault::of(error, self.doing))
    }

    /// Carries out a statement of somebody else's, of which nothing is kept for the next time.
    pub(crate) async fn execute_once(
        &mut self,
        sql: impl Into<Sql>,
        values: &[Value],
    ) -> Result<u64, Fault> {
        let text = sql.into().0;
        let sql = AssertSqlSafe(Arc::clone(&text));
        let done = match &mut self.end {
            End::Sqlite(link) => sqlx::query_with(sql, to_sqlite(values)?)
                .persistent(false)
                .execute(link)
                .await
                .map(|done| done.rows_affected()),
            End::Postgres(link) => {
                let query = sqlx::query_with(sql, to_postgres(values)?).persistent(false);
                let done = within(ANSWER, query.execute(&mut **link)).await;
                done.map(|done| done.rows_affected())
            }
        };
        done.map_err(|error| {
            let fault = Fault::of_write(error, &text);
            if let (Fault::Lost(detail), End::Sqlite(_)) = (&fault, &self.end) {
                // The driver says of a parameter that it does not know what it says of a lost link.
                let (sql, detail) = (text.to_string(), detail.clone());
                return Fault::Write { sql, detail, again: false };
            }
            fault
        })
    }

    /// Carries out a script without parameters.
    pub(crate) async fn script(&mut self, sql: &'static str) -> Result<(), Fault> {
        let done = match &mut self.end {
            End::Sqlite(link) => sqlx::raw_sql(sql).execute(link).await.map(drop),
            End::Postgres(link) => {
                within(ANSWER, sqlx::raw_sql(sql).execute(&mut **link)).await.map(drop)
            }
        };
        done.map_err(|error| Fault::of(error, self.doing))
    }

    /// Returns every row of a query.
    pub(crate) async fn fetch(
        &mut self,
        sql: impl Into<Sql>,
        values: &[Value],
    ) -> Result<Vec<Row>, Fault> {
        let sql = AssertSqlSafe(sql.into().0);
        let rows: Result<Vec<Row>, sqlx::Error> = match &mut self.end {
            End::Sqlite(link) => sqlx::query_with(sql, to_sqlite(values)?)
                .fetch_all(link)
                .await
                .map(|rows| rows.into_iter().map(Row::Sqlite).collect()),
            End::Postgres(link) => {
                let query = sqlx::query_with(sql, to_postgres(values)?);
                let rows = within(ANSWER, query.fetch_all(&mut **link)).await;
                rows.map(|rows| rows.into_iter().map(Row::Postgres).collect())
            }
        };
        rows.map_err(|error| Fault::of(error, self.doing))
    }

    /// Returns the one number that a query gives.
    pub(crate) async fn number(
        &mut self,
        sql: impl Into<Sql>,
        values: &[Value],
    ) -> Result<i64, Fault> {
        let rows = self.fetch(sql, values).await?;
        rows.first().map_or_else(|| Err(Fault::other(sqlx::Error::RowNotFound)), |row| row.int(0))
    }

    /// Begins a transaction that writes.
    pub(crate) async fn begin(&mut self) -> Result<(), Fault> {
        if self.is_postgres() {
            return self.script("BEGIN").await;
        }
        // SQLite is asked for the place of the writer at once, where it can still wait for it.
        self.execute("BEGIN IMMEDIATE", &[]).await?;
        Ok(())
    }

    /// Makes what the transaction wrote durable.
    pub(crate) async fn commit(&mut self) -> Result<(), Fault> {
        if self.is_postgres() {
            return self.script("COMMIT").await;
        }
        self.execute("COMMIT", &[]).await?;
        Ok(())
    }

    /// Ends a transaction that failed.
    pub(crate) async fn rollback(&mut self) -> Result<(), Fault> {
        self.script("ROLLBACK").await
    }

    /// Ends the connection properly.
    pub(crate) async fn close(self) {
        // Whoever closes has what it wanted; the other end notices either way.
        let _ = match self.end {
            End::Sqlite(link) => link.close().await,
            End::Postgres(link) => within(ANSWER, link.close()).await,
        };
    }
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let late = || sqlx::Error::Io(io::Error::from(io::ErrorKind::TimedOut));
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_late| Err(late()))
}

fn to_sqlite(values: &[Value]) -> Result<SqliteArguments, Fault> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        match value {
            Value::Int(value) => arguments.add(*value),
            Value::Text(value) => arguments.add(Arc::clone(value)),
            Value::Float(value) => arguments.add(*value),
            Value::Bool(value) => arguments.add(*value),
            Value::NoInt | Value::NoText | Value::Null => arguments.add(None::<i64>),
        }
        .map_err(|error| Fault::other(sqlx::Error::Encode(error)))?;
    }
    Ok(arguments)
}

fn to_postgres(values: &[Value]) -> Result<PgArguments, Fault> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Value::Int(value) => arguments.add(*value),
            Value::Text(value) => arguments.add(&**value),
            Value::Float(value) => arguments.add(*value),
            Value::Bool(value) => arguments.add(*value),
            Value::NoInt => arguments.add(None::<i64>),
            Value::NoText => arguments.add(None::<&str>),
            Value::Null => arguments.add(Untyped),
        }
        .map_err(|error| Fault::other(sqlx::Error::Encode(error)))?;
    }
    Ok(arguments)
}

/// A null whose type the server finds out.
struct Untyped;

impl sqlx::Type<sqlx::Postgres> for Untyped {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(sqlx::postgres::types::Oid(0))
    }
}

impl sqlx::Encode<'_, sqlx::Postgres> for Untyped {
    fn encode_by_ref(
        &self,
        _: &mut sqlx::postgres::PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        Ok(sqlx::encode::IsNull::Yes)
    }
}
