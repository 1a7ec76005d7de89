//! The first start: a platform operator, an organization, its default project and its Organization Admin.

use storage::names::{DEFAULT_PROJECT, Slug};
use storage::orgs::{self, NewOrg};
use storage::users::{self, NewUser};
use storage::{groups, memberships, projects};

use crate::admin::AdminError;
use crate::core::Identity;
use crate::name::UserName;
use crate::password;
use crate::rbac::Role;
use crate::secret::Secret;

/// What the first start is told.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The first organization.
    pub org: Slug,
    /// Its Organization Admin.
    pub admin: UserName,
    /// The admin's password; one is generated without it.
    pub admin_password: Option<Secret>,
    /// The platform operator.
    pub operator: UserName,
    /// The operator's password; one is generated without it.
    pub operator_password: Option<Secret>,
}

/// What the first start made. Passwords are here only where they were generated, to be shown once.
#[derive(Debug, Clone)]
pub struct Bootstrapped {
    /// The first organization.
    pub org: String,
    /// Its Organization Admin.
    pub admin: String,
    /// The admin's generated password.
    pub admin_password: Option<Secret>,
    /// The platform operator.
    pub operator: String,
    /// The operator's generated password.
    pub operator_password: Option<Secret>,
}

impl Identity {
    /// Makes what a fresh installation needs, all or nothing; `None` where there is an operator or organization already.
    ///
    /// # Errors
    /// [`AdminError`]: a password that may not be one, operator and admin of one name, or what the database said.
    pub async fn bootstrap(&self, wanted: &Bootstrap) -> Result<Option<Bootstrapped>, AdminError> {
        if wanted.admin == wanted.operator {
            return Err(AdminError::Invalid("the platform operator and the Organization Admin need different names"));
        }
        if !self.is_empty().await? {
            return Ok(None);
        }
        let (admin_hash, admin_password) = self.hash_or_generate(wanted.admin_password.as_ref()).await?;
        let (operator_hash, operator_password) = self.hash_or_generate(wanted.operator_password.as_ref()).await?;
        match self.write_first(wanted, &admin_hash, &operator_hash).await {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            // Another process was a moment faster.
            Err(storage::Error::Conflict(_)) if !self.is_empty().await? => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        Ok(Some(Bootstrapped {
            org: wanted.org.to_string(),
            admin: wanted.admin.to_string(),
            admin_password,
            operator: wanted.operator.to_string(),
            operator_password,
        }))
    }

    /// Whether nobody was made yet, so that [`Identity::bootstrap`] would make the first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn needs_bootstrap(&self) -> storage::Result<bool> {
        self.is_empty().await
    }

    async fn is_empty(&self) -> storage::Result<bool> {
        let mut session = self.db().read().await?;
        Ok(users::list_operators(&mut session, 1).await?.is_empty()
            && orgs::list(&mut session, "", 1).await?.is_empty())
    }

    /// The hash of a given password, or of a generated one, which is returned too.
    async fn hash_or_generate(&self, given: Option<&Secret>) -> Result<(String, Option<Secret>), AdminError> {
        match given {
            Some(given) => {
                password::check(given)?;
                Ok((self.0.hasher.hash(given).await?, None))
            }
            None => {
                let generated = password::generate();
                Ok((self.0.hasher.hash(&generated).await?, Some(generated)))
            }
        }
    }

    async fn write_first(&self, wanted: &Bootstrap, admin_hash: &str, operator_hash: &str) -> storage::Result<bool> {
        let now = self.now();
        let mut tx = self.db().begin().await?;
        if !users::list_operators(&mut tx, 1).await?.is_empty() || !orgs::list(&mut tx, "", 1).await?.is_empty() {
            return Ok(false);
        }
        let user = |name, operator, hash| NewUser {
            name,
            kind: "local",
            operator,
            password_hash: Some(hash),
            temporary_until: None,
        };
        users::create(&mut tx, &user(wanted.operator.as_str(), true, operator_hash), now).await?;
        let org = orgs::create(&mut tx, &NewOrg { slug: &wanted.org, name: wanted.org.as_str() }, now).await?;
        create_default_project(&mut tx, &org.id, now).await?;
        let admin = users::create(&mut tx, &user(wanted.admin.as_str(), false, admin_hash), now).await?;
        make_admin(&mut tx, &org.id, &admin.id, now).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Every organization has one.
pub(crate) async fn create_default_project(tx: &mut storage::Tx, org_id: &str, now: i64) -> storage::Result<()> {
    let slug: Slug =
        DEFAULT_PROJECT.parse().map_err(|_| storage::Error::Config("the default project's name is no slug".into()))?;
    projects::create(
        tx,
        &projects::NewProject { org_id, slug: &slug, settings: projects::ProjectSettings::default(), description: "" },
        now,
    )
    .await?;
    Ok(())
}

/// Makes the groups that every organization has, and a user a member and Organization Admin.
pub(crate) async fn make_admin(tx: &mut storage::Tx, org_id: &str, user_id: &str, now: i64) -> storage::Result<()> {
    memberships::create(tx, org_id, user_id, now).await?;
    memberships::accept(tx, org_id, user_id, now).await?;
    let admins = groups::create_builtin(tx, org_id, Role::ORGANIZATION_ADMIN, now).await?;
    groups::add_member(tx, &admins, user_id, now).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::core::testing;
    use crate::login::Door;

    #[tokio::test]
    async fn the_first_start_happens_once() {
        let t = testing::empty_identity().await;
        let wanted = Bootstrap { admin_password: None, ..testing::bootstrap() };
        let made = t.identity.bootstrap(&wanted).await.unwrap().unwrap();
        assert_eq!(made.operator_password, None);
        let generated = made.admin_password.unwrap();
        let login = t.identity.login("Admin@Localhost", &generated, Door::Console).await.unwrap();
        assert!(!login.must_change_password && login.principal.grants.len() == 1);
        assert!(t.identity.bootstrap(&wanted).await.unwrap().is_none());
        let operator = t.identity.login("operator@localhost", &testing::PASSWORD.into(), Door::Console).await.unwrap();
        assert!(operator.principal.operator && operator.principal.grants.is_empty());
    }

    #[tokio::test]
    async fn a_poor_password_makes_nothing() {
        let t = testing::empty_identity().await;
        let wanted = Bootstrap { operator_password: Some("password".into()), ..testing::bootstrap() };
        assert!(matches!(t.identity.bootstrap(&wanted).await, Err(AdminError::Password(_))));
        let wanted = Bootstrap { operator: "admin@localhost".parse().unwrap(), ..testing::bootstrap() };
        assert!(matches!(t.identity.bootstrap(&wanted).await, Err(AdminError::Invalid(_))));
        assert!(t.identity.is_empty().await.unwrap());
    }
}
