//! Which nodes, and how each is reached.

use std::collections::HashSet;
use std::path::Path;

use flyhot_fleet::{App, FlyError, MachineId, Moment, Token};
use flyhot_node::{Cookie, NodeName, Tls};

use super::home::{app, has_inventory};
use super::token::token;
use super::{Environment, OptionsError, cookie, named, tls};
use crate::cli::{HomeArgs, Inventory, ReachArgs, Verb};

/// epmd's registered port (OTP `erl_epmd.hrl`, IANA 4369).
pub const DEFAULT_EPMD_PORT: u16 = 4369;

/// Where an image has its release, where nobody says otherwise: the Dockerfiles of Phoenix and of Fly.io have it there.
pub(crate) const IN_IMAGE: &str = "/app";

/// Which nodes, and how to reach them.
#[derive(Debug, Clone)]
pub struct Reach {
    /// The nodes, none twice: in the order of the command line, or as an inventory found them.
    pub nodes: Vec<Peer>,
    /// Where they are asked for, if they are not named.
    pub fly: Option<OnFly>,
}

/// A node, and how it is reached.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// How it is reached.
    pub door: Door,
    /// The machine that it runs on, where an inventory found it.
    pub machine: Option<MachineOf>,
}

/// How a node is reached.
#[derive(Debug, Clone)]
pub struct Door {
    /// The secret shared with it.
    pub cookie: Cookie,
    /// The file or variable that was found in.
    pub cookie_place: String,
    /// The port it listens on; epmd is not asked then.
    pub dist_port: Option<u16>,
    /// The port epmd listens on, on its host.
    pub epmd_port: u16,
    /// How to speak TLS with it; `None`: it speaks plain distribution.
    pub tls: Option<Tls>,
}

/// The machine of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineOf {
    /// Which one.
    pub id: MachineId,
    /// Where.
    pub region: String,
    /// When it was started last, by Fly's clock.
    pub started_at: Option<Moment>,
    /// The code id that its label says.
    pub label: Option<String>,
    /// What it was started from, by its tag alone where it has one.
    pub image: Option<String>,
}

/// An image by its tag alone, where it has one: Fly.io names the same one with its digest behind that in one place, and without in another.
pub(crate) fn plain_image(image: &str) -> &str {
    let (name, _) = image.split_once('@').unwrap_or((image, ""));
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if tagged { name } else { image }
}

/// The machines of an app on Fly.io, and what is known beforehand of how their nodes are reached.
#[derive(Debug, Clone)]
pub struct OnFly {
    /// The address of the Machines API.
    pub address: String,
    /// Whose machines.
    pub app: App,
    /// What it is asked with.
    pub token: Token,
    /// The cookie of all of them, and where it was found; without it each is asked for its own.
    pub cookie: Option<(Cookie, String)>,
    /// Where the release lies on each of them.
    pub root: String,
    /// The port of epmd on each of them.
    pub epmd_port: u16,
    /// How to speak TLS with their nodes.
    pub tls: Option<Tls>,
}

/// Where nobody says which nodes a verb is to ask, they are those of the app that is known; those of a file are as good as named.
///
/// # Errors
/// [`OptionsError::NoNodes`]: none is known; [`OptionsError::Named`].
pub(crate) fn complete(verb: &mut Verb, environment: &Environment) -> Result<(), OptionsError> {
    let Some((reach, home)) = verb.asks() else {
        return Ok(());
    };
    if reach.node.is_empty() && reach.inventory.is_none() {
        if !has_inventory(&home, environment)? {
            return Err(OptionsError::NoNodes);
        }
        reach.inventory = Some(Inventory::Fly);
    }
    if let Some(Inventory::File(path)) = &reach.inventory {
        reach.node = named::read(path).map_err(|error| OptionsError::Named {
            path: path.clone(),
            error,
        })?;
        reach.inventory = None;
    }
    Ok(())
}

impl Reach {
    /// Checks arguments and environment, and reads the cookie and the files for TLS. A cookie is looked for in `release` too. Of an
    /// inventory no node is known yet.
    ///
    /// # Errors
    /// [`OptionsError`]: each is the user's to mend, exit code 2.
    pub fn new(
        args: &ReachArgs,
        home: &HomeArgs,
        release: Option<&Path>,
        environment: &Environment,
    ) -> Result<Self, OptionsError> {
        let names = node_names(&args.node)?;
        let epmd_port = epmd_port(args, environment)?;
        let tls = match (&args.tls_ca_file, &args.tls_cert_file, &args.tls_key_file) {
            (Some(ca), Some(certificate), Some(key)) => Some(tls::read(ca, certificate, key)?),
            // The command line takes all of them or none.
            _ => None,
        };
        if args.inventory == Some(Inventory::Fly) {
            return Ok(Self {
                nodes: Vec::new(),
                fly: Some(OnFly::new(args, home, epmd_port, tls, environment)?),
            });
        }
        let found = cookie::resolve(args.cookie_file.as_deref(), release, environment)?;
        let door = Door {
            cookie: found.cookie,
            cookie_place: found.place,
            dist_port: args.dist_port,
            epmd_port,
            tls,
        };
        let peer = |name| Peer {
            name,
            door: door.clone(),
            machine: None,
        };
        Ok(Self {
            nodes: names.into_iter().map(peer).collect(),
            fly: None,
        })
    }
}

impl OnFly {
    fn new(
        args: &ReachArgs,
        home: &HomeArgs,
        epmd_port: u16,
        tls: Option<Tls>,
        environment: &Environment,
    ) -> Result<Self, OptionsError> {
        let said = app(home, environment)?;
        let app = said
            .value
            .parse()
            .map_err(|error: FlyError| OptionsError::FlyApp {
                origin: said.origin.to_string(),
                error: error.into(),
            })?;
        let text = |value: &std::ffi::OsString| value.to_string_lossy().into_owned();
        let given = cookie::of_all(args.cookie_file.as_deref(), environment)?;
        Ok(Self {
            address: environment.machines_api(),
            app,
            token: token(environment)?,
            cookie: given.map(|found| (found.cookie, found.place)),
            root: environment
                .release_root
                .as_ref()
                .map_or_else(|| IN_IMAGE.to_owned(), text),
            epmd_port,
            tls,
        })
    }
}

fn epmd_port(args: &ReachArgs, environment: &Environment) -> Result<u16, OptionsError> {
    match (args.epmd_port, &environment.epmd_port) {
        (Some(port), _) => Ok(port),
        (None, Some(text)) => {
            let port = text
                .to_str()
                .and_then(|text| text.trim().parse().ok())
                .filter(|port| *port != 0);
            port.ok_or_else(|| OptionsError::EpmdPort(text.to_string_lossy().into_owned()))
        }
        (None, None) => Ok(DEFAULT_EPMD_PORT),
    }
}

fn node_names(given: &[String]) -> Result<Vec<NodeName>, OptionsError> {
    let mut nodes: Vec<NodeName> = Vec::with_capacity(given.len());
    let mut known = HashSet::with_capacity(given.len());
    for text in given {
        let name = text
            .parse::<NodeName>()
            .map_err(|source| OptionsError::NodeName {
                name: text.clone(),
                source,
            })?;
        if !known.insert(name.clone()) {
            return Err(OptionsError::NodeTwice(text.clone()));
        }
        nodes.push(name);
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_with_a_tag_is_the_same_with_its_digest_and_without() {
        for (image, expected) in [
            (
                "registry.fly.io/shop:deployment-1",
                "registry.fly.io/shop:deployment-1",
            ),
            (
                "registry.fly.io/shop:deployment-1@sha256:ab",
                "registry.fly.io/shop:deployment-1",
            ),
            ("registry.fly.io/shop@sha256:ab", "registry.fly.io/shop@sha256:ab"),
            ("localhost:5000/shop@sha256:ab", "localhost:5000/shop@sha256:ab"),
            ("shop", "shop"),
        ] {
            assert_eq!(plain_image(image), expected);
        }
    }
}
