//! The first start: an organization, its admin and the platform's operator, and the words that are said once.

use anyhow::{Context, Result};

use identity::Secret;
use identity::bootstrap::{Bootstrap, Bootstrapped};

use crate::cli::Service;
use crate::config::{Config, Password, Tls};
use crate::pki::Pki;
use crate::stores::Stores;

/// What the first start has to say, to standard output and nowhere else.
pub(crate) struct Welcome(Bootstrapped);

/// Makes the first accounts where there are none. Several processes may do so at once: one of them makes them.
///
/// # Errors
/// Where a name or password is not acceptable, or the database fails.
pub(crate) async fn ensure(config: &Config, stores: &Stores) -> Result<Option<Welcome>> {
    // A password file may be gone after the first start, as it should be.
    if !stores.identity.needs_bootstrap().await.context("reading the database")? {
        return Ok(None);
    }
    let first = &config.first;
    let secret = |password: &Password| -> Result<Option<Secret>> {
        Ok(password.read()?.map(|given| Secret::new(given.expose())))
    };
    let wanted = Bootstrap {
        org: first.org.parse().with_context(|| format!("the first organization's name (org) {:?}", first.org))?,
        admin: first.admin_email.parse().with_context(|| format!("admin_email {:?}", first.admin_email))?,
        admin_password: secret(&first.admin_password).context("admin_password")?,
        operator: first.operator_email.parse().with_context(|| format!("operator_email {:?}", first.operator_email))?,
        operator_password: secret(&first.operator_password).context("operator_password")?,
    };
    let made = stores.identity.bootstrap(&wanted).await.context("making the first organization and its admin")?;
    Ok(made.map(|made| {
        tracing::info!(org.slug = made.org, user.name = made.admin, "made the first organization and its admin");
        Welcome(made)
    }))
}

impl Welcome {
    /// Where to go, how to log in, what to trust.
    pub(crate) fn text(&self, config: &Config) -> String {
        let host = config.registry_host();
        let Bootstrapped { org, admin, admin_password, operator, operator_password } = &self.0;
        let password = |generated: &Option<Secret>| match generated {
            Some(secret) => format!("password {}  (shown this once)", secret.expose()),
            None => "with the password you configured".to_owned(),
        };
        let mut text = format!(
            "\nWharfinger is ready.\n\n  Registry       {}\n  REST API       {}/api/v1/openapi.json\n  Organization   {org}\n  \
             Admin          {admin}  {}\n  Operator       {operator}  {}\n",
            config.external_url(Service::Registry),
            config.external_url(Service::Controller),
            password(admin_password),
            password(operator_password),
        );
        if config.tls == Tls::Private {
            let ca = Pki::in_dir(&config.pki_dir()).ca_cert;
            let ca = std::path::absolute(&ca).unwrap_or(ca);
            text.push_str(&format!(
                "\n  Let docker trust this server's private root (once, as root):\n    mkdir -p /etc/docker/certs.d/{host} && \
                 cp {} /etc/docker/certs.d/{host}/ca.crt\n",
                ca.display()
            ));
        }
        text.push_str(&format!(
            "\n  Then\n    docker login {host} -u {admin}\n    docker tag IMAGE {host}/{org}/IMAGE && docker push {host}/{org}/IMAGE\n\n  A lost password is replaced with\n    \
             wharfinger admin reset-password EMAIL\n\n"
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::testing::config;

    fn made(password: Option<&str>) -> Welcome {
        Welcome(Bootstrapped {
            org: "main".into(),
            admin: "admin@localhost".into(),
            admin_password: password.map(Secret::from),
            operator: "operator@localhost".into(),
            operator_password: password.map(Secret::from),
        })
    }

    #[test]
    fn a_generated_password_is_told_and_a_given_one_is_not() {
        let told = made(Some("generated-one")).text(&config(&[]));
        assert!(told.contains("password generated-one"), "{told}");
        assert!(told.contains("docker login localhost:6000 -u admin@localhost"), "{told}");
        assert!(told.contains("/etc/docker/certs.d/localhost:6000/ca.crt"), "{told}");
        let told = made(None).text(&config(&["--tls", "off"]));
        assert!(told.contains("with the password you configured") && !told.contains("certs.d"), "{told}");
    }

    #[tokio::test]
    async fn accounts_are_made_once_and_a_lost_master_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&["--data-dir", dir.path().to_str().unwrap()]);
        let stores = Stores::open(&config).await.unwrap();
        assert!(ensure(&config, &stores).await.unwrap().is_some());
        assert!(ensure(&config, &stores).await.unwrap().is_none());
        Stores::open(&config).await.unwrap();
        std::fs::remove_file(&config.master_key_file).unwrap();
        let error = Stores::open(&config).await.unwrap_err().to_string();
        assert!(error.contains("master key") && error.contains("missing"), "{error}");
        assert!(!config.master_key_file.exists());
    }
}
