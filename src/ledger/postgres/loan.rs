//! A connection lent by the pool.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};

use super::PostgresLedger;
use super::rows::Fault;

/// A connection that goes back to the pool only if it was said to be [`whole`](Loan::whole).
///
/// Otherwise its socket is closed. A try that failed or ran out of time may leave a transaction behind of which sqlx knows
/// nothing (one of two statements that begin it was refused), which the next user would work in. And where the server has
/// vanished, the pool's own way of taking a connection back waits for an answer, without a limit, with its place taken.
pub(super) struct Loan {
    connection: PoolConnection<Postgres>,
    whole: bool,
}

impl PostgresLedger {
    /// Lends a connection.
    pub(super) async fn lend(&self) -> Result<Loan, Fault> {
        Ok(Loan { connection: self.pool.acquire().await?, whole: false })
    }
}

impl Loan {
    /// Gives it back: nothing is open on it, and nothing unread.
    pub(super) fn whole(mut self) {
        self.whole = true;
    }
}

impl Deref for Loan {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.whole {
            self.connection.close_on_drop();
        }
    }
}
