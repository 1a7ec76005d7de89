//! What an API key was narrowed to. It only ever takes away.

use super::{Permission, Reason, Resource};

/// What an API key was narrowed to; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// Ids of projects of the key's organization; `None`: all of it.
    pub projects: Option<Vec<String>>,
    /// Permissions; `None`: all that its user has.
    pub permissions: Option<Vec<Permission>>,
}

impl Narrowing {
    /// Why the question is refused whatever the user may do; `None` where it is not. A key of some projects still sees that
    /// the organization exists, and nothing else of it.
    pub(super) fn refuses(&self, permission: Permission, resource: &Resource<'_>) -> Option<Reason> {
        if let Some(list) = &self.permissions
            && !list.contains(&permission)
        {
            return Some(Reason::KeyPermissions(list.clone()));
        }
        let projects = self.projects.as_ref()?;
        let within = match *resource {
            Resource::Project { project_id, .. } | Resource::Repository { project_id: Some(project_id), .. } => {
                projects.iter().any(|project| project == project_id)
            }
            Resource::Org { .. } => permission == Permission::OrgRead,
            Resource::Platform | Resource::ProjectToCreate { .. } | Resource::Repository { project_id: None, .. } => {
                false
            }
        };
        if within { None } else { Some(Reason::KeyProjects) }
    }
}
