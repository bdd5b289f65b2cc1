//! The bank's database: `SQLite`, with a few customers from its first use on.

use std::fmt;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{Executor, Sqlite};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS customers (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        balance_cents INTEGER NOT NULL,
        pending_cents INTEGER NOT NULL,
        card_blocked INTEGER NOT NULL DEFAULT FALSE
    ) STRICT;
    INSERT OR IGNORE INTO customers (id, name, balance_cents, pending_cents) VALUES
        (123, 'John', 12345, -2345),
        (124, 'Zofia', 250000, 0);
";

/// What a new card costs.
pub const NEW_CARD: Cents = Cents(500);

/// The bank. Cheap to clone: the clones share their connections.
#[derive(Clone, Debug)]
pub struct Bank {
    pool: SqlitePool,
}

/// An amount of money, in hundredths of a dollar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cents(pub i64);

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let cents = self.0.unsigned_abs();
        write!(f, "{sign}${}.{:02}", cents / 100, cents % 100)
    }
}

/// Why the bank does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum BankError {
    /// It has no such customer.
    #[error("the bank has no customer {0}")]
    NoCustomer(u32),
    /// Its database cannot be used.
    #[error("the bank's database failed")]
    Database(#[from] sqlx::Error),
}

impl Bank {
    /// Opens the bank in the file `path`, and founds it if there is none.
    ///
    /// # Errors
    ///
    /// [`sqlx::Error`] if the file cannot be made, or is no database.
    pub async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        pool.execute(TABLES).await?;
        Ok(Self { pool })
    }

    /// Returns what a customer has, less or more what is pending.
    ///
    /// # Errors
    ///
    /// [`BankError`] if there is no such customer, or no database.
    pub async fn balance(&self, customer: u32, with_pending: bool) -> Result<Cents, BankError> {
        let sql = "SELECT balance_cents + IIF(?, pending_cents, 0) FROM customers WHERE id = ?";
        let query = sqlx::query_scalar(sql).bind(with_pending).bind(customer);
        let found = query.fetch_optional(&self.pool).await?;
        found.map(Cents).ok_or(BankError::NoCustomer(customer))
    }

    /// Blocks a customer's card and books what a new one costs, once: returns whether it was not
    /// blocked before.
    ///
    /// # Errors
    ///
    /// [`BankError`] if there is no such customer, or no database.
    pub async fn block_card(&self, customer: u32) -> Result<bool, BankError> {
        let mut transaction = self.pool.begin().await?;
        let sql = "UPDATE customers SET card_blocked = TRUE WHERE id = ? AND NOT card_blocked";
        let blocked = sqlx::query(sql).bind(customer).execute(&mut *transaction).await?;
        let newly = blocked.rows_affected() == 1;
        let price = if newly { Cents(-NEW_CARD.0) } else { Cents(0) };
        book(&mut *transaction, customer, price).await?;
        transaction.commit().await?;
        Ok(newly)
    }

    /// Books an amount, and returns what the customer has then.
    ///
    /// # Errors
    ///
    /// [`BankError`] if there is no such customer, or no database.
    pub async fn book(&self, customer: u32, amount: Cents) -> Result<Cents, BankError> {
        book(&self.pool, customer, amount).await
    }

    /// Returns whether a customer's card is blocked.
    ///
    /// # Errors
    ///
    /// [`BankError`] if there is no such customer, or no database.
    pub async fn is_blocked(&self, customer: u32) -> Result<bool, BankError> {
        let query = sqlx::query_scalar("SELECT card_blocked FROM customers WHERE id = ?");
        let found = query.bind(customer).fetch_optional(&self.pool).await?;
        found.ok_or(BankError::NoCustomer(customer))
    }
}

/// The database adds, not we: whoever else writes the row meanwhile is waited for.
async fn book<'e>(
    database: impl Executor<'e, Database = Sqlite>,
    customer: u32,
    amount: Cents,
) -> Result<Cents, BankError> {
    let sql = "UPDATE customers SET balance_cents = balance_cents + ? WHERE id = ?
               RETURNING balance_cents";
    let booked = sqlx::query_scalar(sql).bind(amount.0).bind(customer);
    let balance = booked.fetch_optional(database).await?;
    balance.map(Cents).ok_or(BankError::NoCustomer(customer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_in_dollars() {
        assert_eq!(Cents(12_345).to_string(), "$123.45");
        assert_eq!(Cents(-5).to_string(), "-$0.05");
    }
}
