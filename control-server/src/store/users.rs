//! Users: the people that nodes belong to.

use serde::Serialize;

use super::{Change, Transaction};
use crate::{name, refusal::Refusal};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
}

/// Makes a user.
#[derive(Debug)]
pub struct CreateUser {
    /// Its name.
    pub name: String,
}

impl Change for CreateUser {
    type Output = User;

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<User, Refusal> {
        if !name::is_user_name(&self.name) {
            return Err(Refusal::BadUserName(self.name));
        }
        let id = tx.next_id().await?;
        let made = sqlx::query(
            "INSERT INTO users (network_id, user_id, name, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (network_id, name) DO NOTHING",
        )
        .bind(tx.network())
        .bind(i64::from(id))
        .bind(&self.name)
        .bind(tx.now())
        .execute(&mut *tx.connection)
        .await?;
        if made.rows_affected() == 0 {
            return Err(Refusal::UserExists(self.name));
        }
        Ok(User { id: id.into(), name: self.name, created_at: tx.now })
    }
}

/// Lists the users, by name.
#[derive(Debug)]
pub struct ListUsers;

impl Change for ListUsers {
    type Output = Vec<User>;

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<Vec<User>, Refusal> {
        let rows = sqlx::query_as::<_, (i64, String, i64)>(
            "SELECT user_id, name, created_at FROM users WHERE network_id = $1 ORDER BY name",
        )
        .bind(tx.network())
        .fetch_all(&mut *tx.connection)
        .await?;
        let user = |(id, name, created_at)| User { id: id as u64, name, created_at: created_at as u64 };
        Ok(rows.into_iter().map(|(id, name, at): (i64, String, i64)| user((id, name, at))).collect())
    }
}

impl Transaction<'_> {
    /// The id of the user with this name.
    pub(crate) async fn user_id(&mut self, name: &str) -> Result<i64, Refusal> {
        sqlx::query_scalar("SELECT user_id FROM users WHERE network_id = $1 AND name = $2")
            .bind(self.network())
            .bind(name)
            .fetch_optional(&mut *self.connection)
            .await?
            .ok_or_else(|| Refusal::NoSuchUser(name.to_owned()))
    }
}
