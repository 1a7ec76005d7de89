//! What makes a search for any part of a text fast in `PostgreSQL`: indexes of every three letters, where its extension `pg_trgm`
//! can be had. It is part of what distributions ship, and whoever owns a database may put it in; where it is not there or
//! refused, everything works without, and searches read every row.

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, query, query_as};

/// The indexes: name, table, column.
const INDEXES: [(&str, &str, &str); 3] = [
    ("memberships_by_part", "memberships", "searched"),
    ("group_members_by_part", "group_members", "searched"),
    ("repositories_by_part", "repositories", "name"),
];

/// Rows from which on an index is made beside those who write, which takes longer: fewer hold them up for milliseconds.
const LARGE: i64 = 10_000;

/// Sees to it that the indexes are there, if that is possible. Of several processes one does it, and none waits for it.
pub(super) async fn offer(pool: &PgPool) {
    if let Err(error) = make(pool).await {
        tracing::info!(%error, "searches go without the indexes of PostgreSQL's extension pg_trgm, which could not be made");
    }
}

async fn make(pool: &PgPool) -> sqlx::Result<()> {
    // A connection of its own: the lock and the settings end with it, whatever happens.
    let mut connection = pool.acquire().await?.detach();
    let made = make_missing(&mut connection).await;
    connection.close().await?;
    made
}

async fn make_missing(connection: &mut PgConnection) -> sqlx::Result<()> {
    if found(connection).await?.len() == INDEXES.len() {
        return Ok(());
    }
    let lock = "SELECT pg_try_advisory_lock(hashtext('wharfinger pg_trgm ' || current_schema()))";
    let (alone,): (bool,) = query_as(lock).fetch_one(&mut *connection).await?;
    if !alone {
        return Ok(());
    }
    query("SET statement_timeout = 0").execute(&mut *connection).await?;
    query("SET lock_timeout = '5s'").execute(&mut *connection).await?;
    let schema = extension(connection).await?;
    let found = found(connection).await?;
    for (index, table, column) in INDEXES {
        if !found.contains(&index.to_owned()) {
            let beside = if is_large(connection, table).await? { "CONCURRENTLY" } else { "" };
            // What broke off while it was made beside writes is there, and of no use.
            let drop = format!("DROP INDEX IF EXISTS {index}");
            query(AssertSqlSafe(drop)).execute(&mut *connection).await?;
            let create = format!("CREATE INDEX {beside} {index} ON {table} USING gin ({column} {schema}.gin_trgm_ops)");
            query(AssertSqlSafe(create)).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Which of the indexes are there and whole.
async fn found(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    let names: Vec<&str> = INDEXES.iter().map(|(index, ..)| *index).collect();
    let sql = "SELECT c.relname::TEXT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
               JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE i.indisvalid AND n.nspname = current_schema() AND c.relname::TEXT = ANY($1)";
    let rows: Vec<(String,)> = query_as(sql).bind(names).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(name,)| name).collect())
}

/// The schema that the extension is in, which is created where it is not there.
async fn extension(connection: &mut PgConnection) -> sqlx::Result<String> {
    let sql = "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
               WHERE e.extname = 'pg_trgm'";
    if let Some((schema,)) = query_as(sql).fetch_optional(&mut *connection).await? {
        return Ok(schema);
    }
    let created = query("CREATE EXTENSION IF NOT EXISTS pg_trgm").execute(&mut *connection).await;
    // Somebody else may have been faster, in another schema.
    match (query_as(sql).fetch_optional(connection).await?, created) {
        (Some((schema,)), _) => Ok(schema),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(sqlx::Error::RowNotFound),
    }
}

async fn is_large(connection: &mut PgConnection, table: &str) -> sqlx::Result<bool> {
    let sql = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {table} LIMIT {LARGE}) AS counted");
    let (count,): (i64,) = query_as(AssertSqlSafe(sql)).fetch_one(connection).await?;
    Ok(count == LARGE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::{Db, Raw, testing};
    use crate::{groups, query_all};

    /// A server, where the tests have one.
    fn url() -> Option<String> {
        std::env::var("TEST_DATABASE_URL").ok().filter(|url| !url.is_empty())
    }

    async fn indexes(db: &Db) -> usize {
        let mut session = db.read().await.unwrap();
        let Raw::Postgres(connection) = session.raw() else { return 0 };
        found(connection).await.unwrap().len()
    }

    #[tokio::test]
    async fn several_who_start_at_once_make_the_indexes_once_and_searches_use_them() {
        let Some(url) = url() else { return };
        let db = testing::empty_postgres(&url).await;
        let (one, other, third) = tokio::join!(db.migrate(), db.migrate(), db.migrate());
        assert!(one.is_ok() && other.is_ok() && third.is_ok());
        db.migrate().await.unwrap();
        assert_eq!(indexes(&db).await, INDEXES.len());
        let mut session = db.read().await.unwrap();
        if let Raw::Postgres(connection) = session.raw() {
            query("SET enable_seqscan = off").execute(&mut *connection).await.unwrap();
            query("SET enable_indexscan = off").execute(connection).await.unwrap();
        }
        for (index, table, column) in INDEXES {
            let sql = format!("EXPLAIN SELECT * FROM {table} WHERE {column} LIKE '%abc%'");
            let plan = query_all!(session, (String,), AssertSqlSafe(sql.clone())).unwrap();
            assert!(plan.iter().any(|(line,)| line.contains(index)), "{plan:#?}");
        }
    }

    #[tokio::test]
    async fn a_broken_index_is_made_again_and_a_large_table_is_written_meanwhile() {
        let Some(url) = url() else { return };
        let db = testing::fresh_postgres(&url).await;
        testing::run(&db, "DROP INDEX repositories_by_part").await;
        testing::run(&db, "INSERT INTO orgs (id, slug, name, created_at) VALUES ('o', 'o', 'O', 1)").await;
        let project = "INSERT INTO projects (id, org_id, slug, public, sparse, created_at) VALUES ('p', 'o', 'p', FALSE, FALSE, 1)";
        testing::run(&db, project).await;
        let many = "INSERT INTO repositories (id, org_id, project_id, name, created_at, pushed_at)
                    SELECT 'r' || i, 'o', 'p', 'o/p/' || i, 1, 1 FROM generate_series(1, 10000) i";
        testing::run(&db, many).await;
        let broken = "UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = 'memberships_by_part'::regclass";
        testing::run(&db, broken).await;
        assert_eq!(indexes(&db).await, 1);
        db.migrate().await.unwrap();
        assert_eq!(indexes(&db).await, INDEXES.len());
    }

    #[tokio::test]
    async fn where_the_extension_is_refused_everything_works_without() {
        let Some(url) = url() else { return };
        let (name, admin) = (crate::names::new_id(), Db::connect(&url).await.unwrap());
        let mut session = admin.read().await.unwrap();
        let Raw::Postgres(connection) = session.raw() else { return };
        for sql in [format!("CREATE ROLE r{name} LOGIN"), format!("CREATE DATABASE d{name}")] {
            query(AssertSqlSafe(sql)).execute(&mut *connection).await.unwrap();
        }
        let (server, _) = url.rsplit_once('/').unwrap();
        let owner = Db::connect(&format!("{server}/d{name}")).await.unwrap();
        let mut session = owner.read().await.unwrap();
        if let Raw::Postgres(connection) = session.raw() {
            let sql = format!("CREATE SCHEMA AUTHORIZATION r{name}");
            query(AssertSqlSafe(sql)).execute(connection).await.unwrap();
        }
        let (scheme, host) = server.split_once("://").unwrap();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let db = Db::connect(&format!("{scheme}://r{name}@{host}/d{name}")).await.unwrap();
        db.migrate().await.unwrap();
        assert_eq!(indexes(&db).await, 0);
        let mut tx = db.begin().await.unwrap();
        let slug = "acme".parse().unwrap();
        let org = crate::orgs::create(&mut tx, &crate::orgs::NewOrg { slug: &slug, name: "A" }, 1).await.unwrap();
        groups::create_builtin(&mut tx, &org.id, "ADMIN", 1).await.unwrap();
        let everybody = groups::find_builtin(&mut tx, &org.id, groups::LOCAL_USERS).await.unwrap().unwrap();
        assert_eq!(groups::members(&mut tx, &everybody, Some("nobody"), "", 9).await.unwrap(), []);
    }
}
