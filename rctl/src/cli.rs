//! The command line. Verbs first, then nouns; every noun's options stand in its file under `commands/`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    apikey, assign, audit, auth, binding, completion, config, group, groupassociation, issuer, login, org, password,
    project, registry, role, session, user, version, whoami,
};
use crate::config::{Overrides, Settings};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Format, Output};
use crate::{apply, credential_helper};

const AFTER: &str = "\
Environment (wins over the file, the command line wins over both):
  RCTL_REST_ENDPOINT   the controller's URL
  RCTL_API_KEY         an API key: ra2.<id>.<secret>, or its id alone
  RCTL_API_SECRET      the key's secret, where RCTL_API_KEY is its id
  RCTL_ORG             the organization
  RCTL_PROJECT         the project
  RCTL_PROFILE         the profile of the file
  RCTL_CA_FILE         the certificate of a private CA
  RCTL_REGISTRY        the registry, HOST[:PORT]
  RCTL_CONFIG          the file, in place of ~/.rctl/config.json
  RCTL_SKIP_SERVER_CERT_VALIDATION
                       true: do not look at the server's certificate (dangerous)
  NO_COLOR             no colours

Exit status:
  0 done             4 denied, or the answer is no    8 refused as invalid
  1 failed           5 not found                      9 too many requests
  2 wrong usage      6 conflict                      10 the audit log is not genuine
  3 not logged in    7 the server does not answer   130 interrupted or declined

Start with:
  rctl config init --endpoint https://registry.example.com
  rctl login
  rctl get users";

/// Wharfinger on the command line.
#[derive(Debug, Parser)]
#[command(name = "rctl", version, after_help = AFTER, max_term_width = 100, propagate_version = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// How to show results
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "table|wide|json|yaml",
        help_heading = "Global options"
    )]
    output: Format,
    /// The organization's slug
    #[arg(long, global = true, value_name = "SLUG", help_heading = "Global options")]
    org: Option<String>,
    /// The profile of the configuration file
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    profile: Option<String>,
    /// The controller's URL
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    endpoint: Option<String>,
    /// The certificate of a private CA, in PEM
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    ca_file: Option<String>,
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    config: Option<PathBuf>,
    /// Tell on standard error what is asked of the server
    #[arg(short, long, global = true, help_heading = "Global options")]
    verbose: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Make, show or change the configuration file
    #[command(subcommand)]
    Config(config::Config),
    /// Log in, in a browser on this or any other machine, or with an API key
    Login(login::Login),
    /// End the session and forget the credentials
    Logout(login::Logout),
    /// Show who you are and what you may do
    Whoami(whoami::Whoami),
    /// Make something
    #[command(subcommand)]
    Create(Create),
    /// Show something, or list what there is
    #[command(subcommand, visible_alias = "list")]
    Get(Get),
    /// Change something
    #[command(subcommand)]
    Update(Update),
    /// Delete something
    #[command(subcommand)]
    Delete(Delete),
    /// Give a role to a user or a group
    #[command(subcommand)]
    Assign(assign::Assign),
    /// Activate, deactivate, unlock people; send their invitation again
    #[command(subcommand)]
    User(user::Action),
    /// Settings and state of an organization
    #[command(subcommand)]
    Org(org::Action),
    /// Sessions: your own, or a user's
    #[command(subcommand)]
    Sessions(session::Sessions),
    /// Change or reset a password
    #[command(subcommand)]
    Password(password::Password),
    /// The registry: log docker in, look at repositories, tags and manifests
    #[command(subcommand)]
    Registry(registry::Registry),
    /// The audit log: look, export, verify
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Ask what somebody may do, and why
    #[command(subcommand)]
    Auth(auth::Auth),
    /// Make things as files describe them
    Apply(apply::Apply),
    /// Speak docker's credential helper protocol (as docker-credential-rctl does)
    CredentialHelper(credential_helper::Helper),
    /// Print a completion script for a shell
    Completion(completion::Completion),
    /// Show the version of this program, and of the server if it answers
    Version(version::Version),
}

macro_rules! nouns {
    ($(#[$meta:meta])* $verb:ident { $($(#[$about:meta])* $noun:ident($args:path),)* }) => {
        $(#[$meta])*
        #[derive(Debug, Subcommand)]
        enum $verb { $($(#[$about])* $noun($args),)* }

        impl $verb {
            async fn run(&self, context: &Context) -> Result<()> {
                match self { $(Self::$noun(args) => Box::pin(args.run(context)).await,)* }
            }
        }
    };
}

nouns! {
    /// What can be made.
    Create {
        /// An organization (platform operators)
        Org(org::Create),
        /// A project
        Project(project::Create),
        /// A person, who is invited by e-mail, or a machine
        User(user::Create),
        /// A group
        Group(group::Create),
        /// A custom role
        Role(role::Create),
        /// A binding: a role for a user or a group
        Binding(binding::Create),
        /// An API key, whose secret is shown once
        Apikey(apikey::Create),
        /// Trust in an OIDC issuer, so that CI systems log in without a secret
        Issuer(issuer::Create),
        /// Users into a group, and a role for it
        Groupassociation(groupassociation::Create),
    }
}

nouns! {
    /// What can be shown.
    Get {
        /// Organizations
        #[command(visible_alias = "orgs", alias = "organization", alias = "organizations")]
        Org(org::Get),
        /// Projects
        #[command(visible_alias = "projects")]
        Project(project::Get),
        /// Users
        #[command(visible_alias = "users")]
        User(user::Get),
        /// Groups
        #[command(visible_alias = "groups")]
        Group(group::Get),
        /// Roles
        #[command(visible_alias = "roles")]
        Role(role::Get),
        /// Bindings
        #[command(visible_alias = "bindings")]
        Binding(binding::Get),
        /// API keys
        #[command(visible_alias = "apikeys")]
        Apikey(apikey::Get),
        /// Trusted OIDC issuers
        #[command(visible_alias = "issuers")]
        Issuer(issuer::Get),
        /// The members of a group and its roles
        #[command(visible_alias = "groupassociations")]
        Groupassociation(groupassociation::Get),
    }
}

nouns! {
    /// What can be changed.
    Update {
        /// An organization's name
        Org(org::Update),
        /// A project
        Project(project::Update),
        /// A user
        User(user::Update),
        /// A group
        Group(group::Update),
        /// A custom role
        Role(role::Update),
        /// A binding
        Binding(binding::Update),
        /// An API key
        Apikey(apikey::Update),
        /// A trusted OIDC issuer
        Issuer(issuer::Update),
    }
}

nouns! {
    /// What can be deleted.
    Delete {
        /// An organization, after a grace period (platform operators)
        Org(org::Delete),
        /// A project
        Project(project::Delete),
        /// A user, from this organization
        User(user::Delete),
        /// A group
        Group(group::Delete),
        /// A custom role
        Role(role::Delete),
        /// A binding
        Binding(binding::Delete),
        /// An API key
        Apikey(apikey::Delete),
        /// A trusted OIDC issuer
        Issuer(issuer::Delete),
        /// Users out of a group, or a role away from it
        Groupassociation(groupassociation::Delete),
    }
}

/// The command line, as completions and tests see it.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// Reads the command line and does what it says.
///
/// # Errors
/// Whatever the command fails with. Wrong usage ends the program here, as clap words it, with status 2.
pub(crate) async fn run() -> Result<()> {
    let args: Vec<OsString> = std::env::args_os().collect();
    if credential_helper::is_called_as(args.first().map(Path::new)) {
        return credential_helper::run_as_program(&args);
    }
    let cli = Cli::from_arg_matches(&command().get_matches_from(args)).unwrap_or_else(|error| error.exit());
    Box::pin(dispatch(cli)).await
}

async fn dispatch(cli: Cli) -> Result<()> {
    let Global { output, org, profile, endpoint, ca_file, config, verbose } = cli.global;
    if let Command::Completion(completion) = &cli.command {
        return completion.run();
    }
    let given = Overrides { config, profile, endpoint, org, ca_file };
    // `config` works on the file itself: what is wrong in it must not be in the way.
    let settings = Settings::resolve(&given, &|name| std::env::var(name).ok());
    if let Command::Config(config) = &cli.command {
        return config.run(&given, settings, Output::new(output)).await;
    }
    let context = Context::new(settings?, Output::new(output), verbose);
    let context = &context;
    match &cli.command {
        Command::Login(login) => Box::pin(login.run(context)).await,
        Command::Logout(logout) => logout.run(context).await,
        Command::Whoami(whoami) => whoami.run(context).await,
        Command::Create(noun) => noun.run(context).await,
        Command::Get(noun) => noun.run(context).await,
        Command::Update(noun) => noun.run(context).await,
        Command::Delete(noun) => noun.run(context).await,
        Command::Assign(assign) => assign.run(context).await,
        Command::User(action) => action.run(context).await,
        Command::Org(action) => action.run(context).await,
        Command::Sessions(sessions) => sessions.run(context).await,
        Command::Password(password) => Box::pin(password.run(context)).await,
        Command::Registry(registry) => Box::pin(registry.run(context)).await,
        Command::Audit(audit) => Box::pin(audit.run(context)).await,
        Command::Auth(auth) => auth.run(context).await,
        Command::Apply(apply) => Box::pin(apply.run(context)).await,
        Command::CredentialHelper(helper) => helper.run(&context.settings),
        Command::Version(version) => version.run(context).await,
        Command::Config(_) | Command::Completion(_) => Err(Error::Other("done before".into())),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_holds_together() {
        super::command().debug_assert();
    }
}
