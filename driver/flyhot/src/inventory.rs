//! Nodes that nobody names: those of the machines of an app on Fly.io.
//!
//! Nothing is touched on a machine, and nothing is decided about an upgrade. Every machine is accounted for: it has a node that is
//! reached, or it is left to boot, or it runs no Erlang, or its host is lost, or it is what stands against the command. What is there is
//! asked of the Machines API ([`flyhot_fleet`]) and of epmd on each machine; which of epmd's names is meant is decided by [`choose`].

mod choice;
mod leases;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use flyhot_events::{Event, InventoryMachine, MachineRole, NodeOutcome, OutcomeKind, Reason, ReasonCode};
use flyhot_fleet::{Exec, Fly, FlyError, Host, Machine, MachineId, Moment, Ran, Repeat, State};
use flyhot_node::{NamesError, NodeName, Registered, names};
use flyhot_rollout::Stands;
use futures::StreamExt as _;

use crate::drive::NodeError;
use crate::errors;
use crate::ledger::Ledger;
use crate::options::{Door, MachineOf, OnFly, Peer, Reach, cookie_of_machine, plain_image};
use crate::waves::Leg;
pub(crate) use choice::Unclear;
use choice::choose;
pub(crate) use leases::{Leases, told};

/// How long epmd has to answer. It keeps all it knows in memory: this is three losses of a packet.
const EPMD: Duration = Duration::from_secs(7);

/// How long a command on a machine may take that reads a file or looks at processes.
const COMMAND: Duration = Duration::from_secs(10);

/// How long such a command is tried: nobody may run one while somebody else holds the machine's lease, and flyctl holds it for a
/// minute where a machine is slow to become healthy.
const TRIED: Duration = Duration::from_secs(60);

/// How long a machine that is being started may take until it is. Fly says 0.3 to 3.5 s where the image is on the host.
const STARTS: Duration = Duration::from_secs(20);

/// How long a release that boots may take until epmd knows it: two or three seconds, and some more where the machine has little of a
/// processor. As long a machine that was started may take until it comes to its release.
const BOOT: Duration = Duration::from_secs(10);

/// Between two questions whether it is there by now; Fly lets one read a machine five times a second.
const AGAIN: Duration = Duration::from_millis(500);

/// As many machines are asked at once: each is a connection, and a thousand are done in some rounds.
const AT_ONCE: usize = 64;

/// The label of a machine that says which code it runs.
const LABEL: &str = "flyhot_code_id";

/// The cookie of the machine itself: where commands see the environment of the app that is the variable, else what the release
/// brought. Mix has the same order in its script; it is one shell, since a release has one.
const COOKIE: &str = "printf %s \"${RELEASE_COOKIE:-$(cat \"$0/releases/COOKIE\")}\"";

/// Whether Erlang runs on the machine, or flyhot before it boots, in its network: there may be containers with another one.
/// Who may not see that takes it for the same, unless it has ended by then, whether somebody took note of that or not.
const ERLANG: &str = "own=$(readlink /proc/self/ns/net)
for process in /proc/[0-9]*; do
    read -r name 2>/dev/null <\"$process/comm\" || continue
    case $name in
        beam* | flyhot*)
            its=$(readlink \"$process/ns/net\")
            [ -n \"$its\" ] || case $(cat \"$process/stat\" 2>/dev/null) in
                \"\" | *\") Z \"*) continue ;;
            esac
            [ \"${its:-$own}\" = \"$own\" ] && echo yes && exit
            ;;
    esac
done
echo no";

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Who was asked.
    pub(crate) fly: Arc<Fly>,
    app: String,
    machines: Vec<InventoryMachine>,
    /// The same machines in the same order, as Fly told of them.
    seen: Vec<Machine>,
    /// Machines that should have a node that can be reached, and have none.
    pub(crate) lacking: Vec<Lacking>,
}

/// A machine that should have a node that can be reached, and has none.
#[derive(Debug)]
pub(crate) struct Lacking {
    /// Its id.
    pub(crate) machine: String,
    region: String,
    /// Why.
    pub(crate) error: NodeError,
    /// Fly says that its host does not answer: nobody can do anything with it, and it boots when that is back.
    host_lost: bool,
}

impl Lacking {
    /// What becomes of it, where the others are not kept waiting for its host.
    fn left_out(&self) -> NodeOutcome {
        NodeOutcome {
            machine: Some(self.machine.clone()),
            region: Some(self.region.clone()),
            reasons: vec![Reason::new(
                ReasonCode::HostLost,
                &self.machine,
                &self.error.message,
                &self.error.hint,
            )],
            ..NodeOutcome::untouched(&self.machine, OutcomeKind::NotBegun)
        }
    }
}

impl Found {
    /// Which machines there are.
    pub(crate) fn event(&self) -> Event {
        Event::Inventory {
            app: self.app.clone(),
            machines: self.machines.clone(),
        }
    }

    fn images(&self) -> Images {
        let ours = self.each().filter(|(_, role)| *role != MachineRole::Other);
        ours.map(|(machine, _)| (machine.id.clone(), image(machine)))
            .collect()
    }

    /// Each machine, as Fly told of it, and what it is to the command.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&Machine, MachineRole)> {
        let roles = self.machines.iter().map(|machine| machine.role);
        self.seen.iter().zip(roles)
    }
}

/// What is known of a machine once it was asked.
enum Answer {
    Node(Box<Peer>),
    /// It is asked when it boots.
    Left,
    /// It runs no Erlang.
    Other,
    Lacking {
        error: NodeError,
        host_lost: bool,
    },
}

/// The images of machines that may run the release, as far as Fly knows them.
pub(crate) type Images = HashMap<MachineId, Option<String>>;

/// What a look at who else is there found, beside nodes.
#[derive(Default)]
pub(crate) struct Again {
    /// Whose machines are suspended, and were not taken over since they were started last.
    pub(crate) asleep: Vec<String>,
    /// The places of nodes that were taken over and whose machines were started since: anew, or to go on where they were suspended.
    pub(crate) started: HashSet<usize>,
    /// What machines are started from by now.
    pub(crate) images: Images,
}

/// What else is known once all nodes were found.
pub(crate) struct All {
    /// Who was asked.
    pub(crate) fly: Arc<Fly>,
    /// What machines are started from.
    pub(crate) images: Images,
    /// How many machines are left to boot: each of them may have a node at any time.
    pub(crate) left: usize,
}

/// Looks for all nodes, where they are not named, and says which machines there are. Where one of them has no node that could be
/// reached, nothing is to be done with any, unless its host is lost: that may last for days, and nobody here can mend it.
pub(crate) async fn all(
    reach: &mut Reach,
    release: Option<&str>,
    ledger: &mut Ledger,
    emit: &mut dyn FnMut(Event),
) -> Result<Option<All>, NodeError> {
    let Some(found) = find(reach, release).await? else {
        return Ok(None);
    };
    emit(found.event());
    ledger.found(reach.nodes.iter().map(not_begun));
    let (app, count) = (found.app.clone(), found.machines.len());
    let roles = found.machines.iter().map(|machine| machine.role);
    let all = All {
        fly: Arc::clone(&found.fly),
        images: found.images(),
        left: roles.filter(|role| *role == MachineRole::LeftToBoot).count(),
    };
    nobody_lacks(found, ledger, emit)?;
    if reach.nodes.is_empty() {
        return Err(errors::no_machine(&app, count));
    }
    Ok(Some(all))
}

/// Looks who else is there by now. A machine that was not there, or not started, has joined; one that was taken over and started since
/// may run again what it ran before, or go on where it was suspended: its node is to be asked.
pub(crate) async fn again(
    fly: &Arc<Fly>,
    leg: &mut Leg,
    ledger: &mut Ledger,
    emit: &mut dyn FnMut(Event),
) -> Result<Again, NodeError> {
    let reach = &mut leg.options.reach;
    let mut again = Again::default();
    let Some(on) = &reach.fly else {
        return Ok(again);
    };
    let (nodes, found) = look(fly, on, Some(&leg.release.name), &reach.nodes).await?;
    emit(found.event());
    again.images = found.images();
    let seen = found.seen.iter();
    let asleep = seen.filter(|machine| matches!(machine.state, State::Suspending | State::Suspended));
    let asleep: Vec<(MachineId, Option<Moment>)> = asleep
        .map(|machine| (machine.id.clone(), machine.started_at))
        .collect();
    nobody_lacks(found, ledger, emit)?;
    let places: HashMap<MachineId, usize> = reach
        .nodes
        .iter()
        .enumerate()
        .filter_map(|(at, peer)| Some((peer.machine.as_ref()?.id.clone(), at)))
        .collect();
    let known = |at: usize| reach.nodes.get(at)?.machine.as_ref();
    let taken_over = |id: &MachineId, started_at| {
        places.get(id).is_some_and(|at| {
            ledger.stands(*at) == Stands::Target
                && known(*at).is_some_and(|machine| machine.started_at == started_at)
        })
    };
    let asleep = asleep
        .iter()
        .filter(|(id, started_at)| !taken_over(id, *started_at));
    again.asleep = asleep.map(|(id, _)| id.to_string()).collect();
    for peer in nodes {
        let at = peer
            .machine
            .as_ref()
            .and_then(|machine| places.get(&machine.id))
            .copied();
        match at.and_then(|at| Some((at, reach.nodes.get_mut(at)?))) {
            // Whoever was left to boot is there again, whatever is known of its start.
            Some((at, known)) if known.machine == peer.machine && ledger.stands(at) != Stands::Left => {}
            Some((at, known)) => {
                let image = |peer: &Peer| peer.machine.as_ref()?.image.clone();
                if ledger.stands(at) == Stands::Target && image(known) == image(&peer) {
                    again.started.insert(at);
                } else {
                    ledger.restarted(at, not_begun(&peer));
                }
                *known = peer;
            }
            None => {
                ledger.joined(not_begun(&peer));
                reach.nodes.push(peer);
            }
        }
    }
    Ok(again)
}

/// Says what stands against machines; the first of it is the answer. Those whose hosts are lost are left out.
fn nobody_lacks(found: Found, ledger: &mut Ledger, emit: &mut dyn FnMut(Event)) -> Result<(), NodeError> {
    let (lost, lacking): (Vec<_>, Vec<_>) = found.lacking.into_iter().partition(|lacking| lacking.host_lost);
    let known = ledger.leaves_out(lost.iter().map(Lacking::left_out));
    let mut lacking = lacking.into_iter();
    let first = lacking.next();
    let told = lost.into_iter().filter(|lost| !known.contains(&lost.machine));
    for Lacking { machine, error, .. } in told.chain(lacking) {
        emit(error.event(Some(machine)));
    }
    first.map_or(Ok(()), |first| Err(first.error))
}

/// The image that every machine was started from; `None` where nodes are named.
///
/// # Errors
/// They have several: what is booted with the one is not what is booted with the other.
pub(crate) fn base_image(nodes: &[Peer]) -> Result<Option<String>, NodeError> {
    let machines = nodes.iter().filter_map(|peer| peer.machine.as_ref());
    let mut images: Vec<_> = machines
        .filter_map(|machine| Some((machine.image.as_deref()?, &machine.id)))
        .collect();
    let first = images.first().copied();
    images.retain(|(image, _)| first.is_some_and(|(one, _)| one != *image));
    match (first, images.first()) {
        (Some(one), Some(other)) => Err(errors::several_images(one, *other)),
        (first, _) => Ok(first.map(|(image, _)| image.to_owned())),
    }
}

/// Whether this machine was started from the image from which it was when it was looked for.
///
/// # Errors
/// Another was put in its place, with code that nobody is to take away from it.
pub(crate) fn unreplaced(machine: &MachineOf, now: &Machine) -> Result<(), NodeError> {
    still(&machine.id, machine.image.as_deref(), image(now).as_deref())
}

/// The same of all of these machines, by one list; those that are gone are met when it is their turn.
pub(crate) async fn all_unreplaced(fly: &Fly, before: &Images) -> Result<(), NodeError> {
    let seen = fly.inventory().await.map_err(|error| errors::fly(&error))?;
    let known = seen.iter().filter(|now| before.contains_key(&now.id));
    let now = known.map(|now| (now.id.clone(), image(now))).collect();
    none_replaced(before, &now)
}

/// Whether the image that every machine was started from is still the one for which the store has a pointer.
///
/// # Errors
/// They have several, or all of them another: a `fly deploy` came between.
pub(crate) fn still_of(nodes: &[Peer], base: Option<&str>) -> Result<(), NodeError> {
    let now = base_image(nodes)?;
    let first = nodes.iter().find_map(|peer| peer.machine.as_ref());
    first.map_or(Ok(()), |first| still(&first.id, base, now.as_deref()))
}

fn image(machine: &Machine) -> Option<String> {
    let config = machine.config.as_ref()?;
    Some(plain_image(&config.image).to_owned())
}

/// Whether this machine has the image that it should have, as far as both are known.
fn still(machine: &MachineId, was: Option<&str>, now: Option<&str>) -> Result<(), NodeError> {
    match (was, now) {
        (Some(was), Some(now)) if was != now => Err(errors::replaced(machine, was, now)),
        _ => Ok(()),
    }
}

/// Whether what the store says is of machines that were started from this image.
///
/// # Errors
/// None of them was: what ran before a cold deploy is nothing to go back to from behind it. The answer is which of them were not.
pub(crate) fn are_of(nodes: &[Peer], base: Option<&str>) -> Result<Vec<String>, NodeError> {
    let machines = nodes.iter().filter_map(|peer| peer.machine.as_ref());
    let images = machines.filter_map(|machine| Some((machine.image.as_deref()?, &machine.id)));
    let (of_it, others): (Vec<_>, Vec<_>) =
        images.partition(|(image, _)| base.is_none_or(|base| base == *image));
    match (base, of_it.is_empty(), others.first()) {
        (Some(base), true, Some((other, _))) => Err(errors::cold_since(base, other)),
        _ => Ok(others.iter().map(|(_, id)| id.to_string()).collect()),
    }
}

/// Whether every machine has the image that it had, and whoever came has one that somebody had: there may be several, by `--base`.
///
/// # Errors
/// One has another: a `fly deploy` came between.
pub(crate) fn none_replaced(before: &Images, now: &Images) -> Result<(), NodeError> {
    let known: HashSet<&str> = before.values().filter_map(Option::as_deref).collect();
    now.iter()
        .try_for_each(|(id, now)| match (before.get(id), now.as_deref()) {
            (Some(was), now) => still(id, was.as_deref(), now),
            (None, Some(now)) if !known.contains(now) => Err(errors::came_with(id, now)),
            (None, _) => Ok(()),
        })
}

/// A node before anything was done with it.
pub(crate) fn not_begun(peer: &Peer) -> NodeOutcome {
    let machine = peer.machine.as_ref();
    NodeOutcome {
        machine: machine.map(|machine| machine.id.to_string()),
        region: machine.map(|machine| machine.region.clone()),
        ..NodeOutcome::untouched(peer.name.to_string(), OutcomeKind::NotBegun)
    }
}

/// Looks for all nodes; `release` is the name of the release that they run, where it is known. `None`: nodes are named.
pub(crate) async fn find(reach: &mut Reach, release: Option<&str>) -> Result<Option<Found>, NodeError> {
    let Some(on) = &reach.fly else {
        return Ok(None);
    };
    let fly = Fly::new(&on.address, on.app.clone(), on.token.clone()).map_err(|error| errors::fly(&error))?;
    let (nodes, found) = look(&Arc::new(fly), on, release, &[]).await?;
    reach.nodes = nodes;
    Ok(Some(found))
}

/// Looks for all nodes. A machine of those that are known is not asked again, as long as it was not started anew.
async fn look(
    fly: &Arc<Fly>,
    on: &OnFly,
    release: Option<&str>,
    known: &[Peer],
) -> Result<(Vec<Peer>, Found), NodeError> {
    let seen = fly.inventory().await.map_err(|error| errors::fly(&error))?;
    let app = on.app.to_string();
    let names: Vec<&str> = release.into_iter().chain([app.as_str()]).collect();
    let of = |peer: &'_ Peer| {
        peer.machine
            .clone()
            .map(|machine| (machine.id, machine.started_at))
    };
    let known: HashMap<_, _> = known.iter().filter_map(|peer| Some((of(peer)?, peer))).collect();
    let asking = seen.iter().map(|machine| {
        let known = known.get(&(machine.id.clone(), machine.started_at)).copied();
        ask(fly, on, machine, &names, known)
    });
    let answers: Vec<Answer> = futures::stream::iter(asking).buffered(AT_ONCE).collect().await;
    let (mut nodes, mut machines, mut lacking) = (Vec::new(), Vec::new(), Vec::new());
    for (machine, answer) in seen.iter().zip(answers) {
        let (role, node) = match answer {
            Answer::Node(peer) => {
                let name = peer.name.to_string();
                nodes.push(*peer);
                (MachineRole::Node, Some(name))
            }
            Answer::Left => (MachineRole::LeftToBoot, None),
            Answer::Other => (MachineRole::Other, None),
            Answer::Lacking { error, host_lost } => {
                lacking.push(Lacking {
                    machine: machine.id.to_string(),
                    region: machine.region.clone(),
                    error,
                    host_lost,
                });
                (MachineRole::Lacking, None)
            }
        };
        machines.push(InventoryMachine {
            machine: machine.id.to_string(),
            region: machine.region.clone(),
            group: machine.group().map(str::to_owned),
            state: machine.state.to_string(),
            image: machine.config.as_ref().map(|config| config.image.clone()),
            role,
            node,
        });
    }
    let found = Found {
        fly: Arc::clone(fly),
        app,
        machines,
        seen,
        lacking,
    };
    Ok((nodes, found))
}

/// Asks one machine for its node.
async fn ask(fly: &Fly, on: &OnFly, machine: &Machine, names: &[&str], known: Option<&Peer>) -> Answer {
    if let (State::Started, Some(peer)) = (&machine.state, known) {
        return Answer::Node(Box::new(peer.clone()));
    }
    let answer = match settled(fly, machine).await {
        Ok(Some(machine)) => node(fly, on, &machine, names).await,
        Ok(None) => return Answer::Left,
        Err(error) => Err(errors::fly(&error)),
    };
    answer.unwrap_or_else(|error| Answer::Lacking {
        error,
        host_lost: false,
    })
}

/// The machine once it is started; `None` where it is not on the way to that, or needs long for it.
async fn settled<'a>(fly: &Fly, machine: &'a Machine) -> Result<Option<Cow<'a, Machine>>, FlyError> {
    let until = Instant::now() + STARTS;
    let mut machine = Cow::Borrowed(machine);
    loop {
        match machine.state {
            State::Started => return Ok(Some(machine)),
            State::Starting | State::Restarting | State::Replacing | State::Updating
                if Instant::now() < until =>
            {
                tokio::time::sleep(AGAIN).await;
                machine = Cow::Owned(fly.machine(&machine.id).await?);
            }
            _ => return Ok(None),
        }
    }
}

/// The state of the machine that had this node, if there is one that was stopped, suspended or removed by somebody since, or by Fly for want
/// of traffic: it boots what is committed by then, or goes on with what it has. One that ended by itself is no such machine: its code may
/// be why.
pub(crate) async fn left_to_boot(fly: Option<&Fly>, peer: &Peer) -> Option<State> {
    match fly?.machine(&peer.machine.as_ref()?.id).await {
        Ok(seen) => {
            let left = match &seen.state {
                State::Stopping | State::Suspending | State::Suspended => true,
                State::Stopped => seen.exit.is_none_or(|exit| exit.requested_stop),
                state => state.is_gone(),
            };
            left.then_some(seen.state)
        }
        Err(error) => matches!(error, FlyError::Absent { .. }).then_some(State::Destroyed),
    }
}

/// What is known of a machine that is started.
async fn node(fly: &Fly, on: &OnFly, machine: &Machine, known: &[&str]) -> Result<Answer, NodeError> {
    let id = &machine.id;
    let Some(address) = machine.private_ip else {
        return Err(errors::no_address(id));
    };
    // Its entrypoint may not have come to the release yet. Where none comes this costs time, but only with a machine that was started
    // just now.
    let begins = Instant::now() + youth(machine.started_at, SystemTime::now());
    let mut boots = None;
    let registered = loop {
        let registered = match names(address, on.epmd_port, EPMD).await {
            Ok(registered) => registered,
            // Somebody is there to say that nobody listens.
            Err(NamesError::NoEpmd { source, .. })
                if source.kind() == std::io::ErrorKind::ConnectionRefused =>
            {
                Vec::new()
            }
            Err(error) => {
                let silent = matches!(error, NamesError::NoEpmd { .. } | NamesError::Silent { .. });
                let host_lost = silent && machine.host != Host::Ok;
                let error = errors::no_names(id, &error, host_lost);
                return Ok(Answer::Lacking { error, host_lost });
            }
        };
        if !registered.is_empty() {
            break registered;
        }
        if boots.is_none() {
            let runs = runs_erlang(fly, machine).await;
            let runs = runs.map_err(|why| errors::nothing_known(id, &why))?;
            boots = runs.then(|| Instant::now() + BOOT);
        }
        match boots {
            None if Instant::now() >= begins => return Ok(Answer::Other),
            Some(until) if Instant::now() >= until => return Err(errors::not_distributed(id)),
            _ => tokio::time::sleep(AGAIN).await,
        }
    };
    let names: Vec<&str> = registered
        .iter()
        .map(|Registered { name, .. }| name.as_str())
        .collect();
    let name = choose(&names, known).map_err(|unclear| errors::unclear(id, &unclear))?;
    let name: NodeName = format!("{name}@{address}")
        .parse()
        .map_err(|error| errors::no_name(id, name, &error))?;
    let (cookie, cookie_place) = match &on.cookie {
        Some(given) => given.clone(),
        None => {
            let cookie = cookie(fly, on, machine).await?;
            (
                cookie,
                format!(
                    "RELEASE_COOKIE or {}/releases/COOKIE of the machine {id}",
                    on.root
                ),
            )
        }
    };
    Ok(Answer::Node(Box::new(Peer {
        name,
        door: Door {
            cookie,
            cookie_place,
            // It may have another one by the time that it is reached.
            dist_port: None,
            epmd_port: on.epmd_port,
            tls: on.tls.clone(),
        },
        machine: Some(MachineOf {
            id: id.clone(),
            region: machine.region.clone(),
            started_at: machine.started_at,
            label: machine
                .config
                .as_ref()
                .and_then(|config| config.metadata.get(LABEL).cloned()),
            image: image(machine),
        }),
    })))
}

/// What is left of the time in which a machine comes to its release; all of it where its clock is ahead, none where no start is known.
fn youth(started_at: Option<SystemTime>, now: SystemTime) -> Duration {
    let age = started_at.map(|at| now.duration_since(at).unwrap_or_default());
    age.map_or(Duration::ZERO, |age| BOOT.saturating_sub(age))
}

/// Has a machine carry the code that its node runs; the answer is why it does not.
pub(crate) async fn label(fly: &Fly, machine: &MachineId, code_id: &str) -> Result<(), FlyError> {
    fly.set_metadata(machine, LABEL, code_id).await
}

/// Runs a command on a machine that only reads, and takes no longer than to read a file or look at processes.
pub(crate) async fn look_at(fly: &Fly, machine: &MachineId, words: &[&str]) -> Result<Ran, FlyError> {
    let exec = Exec {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        stdin: None,
        timeout: COMMAND,
        repeat: Repeat::Harmless,
    };
    fly.exec(machine, &exec, TRIED).await
}

async fn runs_erlang(fly: &Fly, machine: &Machine) -> Result<bool, String> {
    let ran = look_at(fly, &machine.id, &["sh", "-c", ERLANG]).await;
    let ran = ran.map_err(|error| error.to_string())?;
    match (ran.exit_code, ran.stdout.trim()) {
        (0, "yes") => Ok(true),
        (0, "no") => Ok(false),
        (code, _) => Err(format!("a look at its processes ended with exit code {code}")),
    }
}

async fn cookie(fly: &Fly, on: &OnFly, machine: &Machine) -> Result<flyhot_node::Cookie, NodeError> {
    let ran = look_at(fly, &machine.id, &["sh", "-c", COOKIE, &on.root]).await;
    let ran = ran.map_err(|error| errors::fly(&error))?;
    // What it wrote is shown to nobody.
    let cookie = cookie_of_machine(&ran.stdout).filter(|_| ran.exit_code == 0);
    cookie.ok_or_else(|| errors::no_cookie(&machine.id, &on.root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_keeps_its_image_and_who_comes_has_one_that_was_there() {
        let of = |machines: &[(&str, Option<&str>)]| {
            let machines = machines.iter();
            let all = machines.map(|(id, image)| (id.parse().unwrap(), image.map(str::to_owned)));
            all.collect::<Images>()
        };
        let before = of(&[("a", Some("x")), ("b", Some("z")), ("c", None)]);
        for (now, well) in [
            (of(&[("a", Some("x")), ("b", Some("z"))]), true),
            (of(&[("a", Some("z"))]), false),
            // What Fly does not tell is not held against anybody.
            (of(&[("a", None), ("c", Some("y")), ("d", None)]), true),
            (of(&[("d", Some("x")), ("e", Some("z"))]), true),
            (of(&[("d", Some("y"))]), false),
        ] {
            assert_eq!(none_replaced(&before, &now).is_ok(), well, "{now:?}");
        }
    }

    #[test]
    fn only_a_machine_that_was_started_just_now_is_waited_for() {
        let now = SystemTime::now();
        let left = |age: u64| youth(now.checked_sub(Duration::from_secs(age)), now);
        assert_eq!([0, 4].map(left), [BOOT, BOOT - Duration::from_secs(4)]);
        assert_eq!([10, 86_400].map(left), [Duration::ZERO; 2]);
        assert_eq!(youth(now.checked_add(BOOT), now), BOOT);
        assert_eq!(youth(None, now), Duration::ZERO);
    }
}
