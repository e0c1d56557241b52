//! A running shop: the fixture release with its HTTP endpoint, carts and pool.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::ops::Deref;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::node::{Node, NodeBuilder};
use crate::otp::Otp;
use crate::probe::Probe;
use crate::release::{Release, build_erlang};
use crate::traffic::TrafficBuilder;
use crate::wait::wait_until;

/// A process is suspended, a request is inside at once, whatever a loaded machine makes of that.
const HELD: Duration = Duration::from_secs(20);

/// How a shop is to be started.
#[derive(Debug, Clone)]
pub struct ShopBuilder {
    node: NodeBuilder,
    carts: u32,
}

/// A running shop; everything a [`Node`] can do it can do.
#[derive(Debug)]
pub struct Shop {
    node: Node,
    port: u16,
    carts: u32,
}

/// The state of one cart, whatever the version of the code that keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cart {
    /// Its number, from 1.
    pub id: u64,
    /// The process that keeps it, as text.
    pub pid: String,
    /// `tuple` (v1), `struct` (v2) or `struct with grams` (v3).
    pub shape: String,
    /// How many items are in it.
    pub items: u64,
    /// What they cost.
    pub total: u64,
    /// How often it was visited.
    pub hits: u64,
}

impl ShopBuilder {
    /// How many carts; 10 000 without this.
    pub fn carts(mut self, carts: u32) -> Self {
        self.carts = carts;
        self
    }

    /// How many workers the pool has; 1 000 without this.
    pub fn pool(mut self, workers: u32) -> Self {
        self.node = self.node.env("SHOP_POOL", &workers.to_string());
        self
    }

    /// Whatever else the node is to be started with.
    pub fn node(mut self, change: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Self {
        self.node = change(self.node);
        self
    }

    /// Starts it and waits until it serves.
    pub fn start(self) -> Shop {
        let node = self.node.env("SHOP_CARTS", &self.carts.to_string()).start();
        let port = node
            .probe()
            .json("{ok, Port} = application:get_env(shop, port), Port.");
        Shop {
            node,
            port: port
                .as_u64()
                .and_then(|port| u16::try_from(port).ok())
                .expect("a port"),
            carts: self.carts,
        }
    }
}

impl Probe {
    /// Stops `shop_plain` from reading its mailbox until [`Probe::let_go`]: no upgrade gets past its knock.
    pub fn hold(&self) {
        self.eval(
            "register(holder, spawn(fun() ->
                 erlang:suspend_process(whereis(shop_plain)),
                 receive go -> ok end
             end)), ok.",
        );
        wait_until("shop_plain is held", HELD, || {
            self.eval("process_info(whereis(shop_plain), status).") == "{status,suspended}"
        });
    }

    /// Ends [`Probe::hold`].
    pub fn let_go(&self) {
        self.eval(
            "Mon = monitor(process, holder), holder ! go, receive {'DOWN', Mon, process, _, _} -> ok end.",
        );
    }
}

impl Shop {
    /// Starts the shop with the code `v1`, `v2` or `v3` and everything else as usual.
    pub fn start(otp: Otp, code: &str) -> Self {
        Self::of(&Release::shop(otp, code)).start()
    }

    /// A shop that runs a copy of `release`.
    pub fn of(release: &Release) -> ShopBuilder {
        ShopBuilder {
            node: Node::release(release),
            carts: 10_000,
        }
    }

    /// Takes the cookie of another one: one command has one for the nodes that it names.
    pub fn shares_cookie_of(&self, other: &Self) {
        self.probe()
            .eval(&format!("erlang:set_cookie('{}').", other.cookie()));
    }

    /// The port of its HTTP endpoint, on every address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Traffic through changed code and affected processes: visits of all carts in turn.
    pub fn traffic(&self) -> TrafficBuilder {
        let carts = u64::from(self.carts);
        TrafficBuilder::new(self.port, move |request| format!("/cart/{}", request % carts + 1))
    }

    /// Takes the carts over to `to`, another build of the same code with another stamp, by the bare loop of
    /// `fixtures/floor`: no check, no way back. Microseconds from the first suspend to the last resume.
    pub fn floor_window(&self, to: &Release) -> u64 {
        let floor = build_erlang(self.otp(), "floor");
        let answer = self.probe().json(&format!(
            "{{module, floor}} = case code:is_loaded(floor) of
                 false -> code:load_abs(filename:join({floor:?}, \"floor\"));
                 _ -> {{module, floor}}
             end,
             Files = filelib:wildcard(filename:join({:?}, \"Elixir.Shop.Extra*.beam\"))
                 ++ [filename:join({0:?}, \"Elixir.Shop.Cart.beam\")],
             Beams = [begin
                          {{ok, B}} = file:read_file(F),
                          {{list_to_atom(filename:basename(F, \".beam\")), F, B}}
                      end || F <- Files],
             Pids = [P || {{_, P, _, _}} <- supervisor:which_children('Elixir.Shop.CartSupervisor')],
             floor:window(Pids, 'Elixir.Shop.Cart', Beams).",
            to.ebin("shop")
        ));
        answer[0].as_u64().expect("microseconds")
    }

    /// [`Probe::hold`] of its node.
    pub fn hold(&self) {
        self.probe().hold();
    }

    /// Has this done each time an agent with fault points says such a message of itself, by the process `flyhot_trace`.
    pub fn whenever_told(&self, message: &str, done: &str) {
        self.probe().eval(&format!(
            "register(flyhot_trace, spawn(fun Spy() -> receive {message} -> {done}; _ -> ok end, Spy() end))."
        ));
    }

    /// Ends [`Shop::hold`].
    pub fn let_go(&self) {
        self.probe().let_go();
    }

    /// Requests of `count` clients that stay inside `Shop.Hold`, a module every version changes, until
    /// [`Inside::leave`].
    pub fn inside(&self, count: usize) -> Inside<'_> {
        let requests = (0..count)
            .map(|_| {
                let port = self.port;
                std::thread::spawn(move || ask(port, "/hold"))
            })
            .collect();
        wait_until("the requests are inside a changed module", HELD, || {
            self.probe().eval(
                "length([P || P <- processes(), {_, Stack} <- [process_info(P, current_stacktrace)],
                              lists:keymember('Elixir.Shop.Hold', 1, Stack)]).",
            ) == count.to_string()
        });
        Inside { shop: self, requests }
    }

    /// Every cart by `sys:get_state/1`, ordered by number.
    pub fn carts(&self) -> Vec<Cart> {
        let carts = self.probe().json(
            "lists:sort([begin
                 {Shape, Id, Items, Total, Hits} = case sys:get_state(Pid) of
                     {cart, I, L, T, H} -> {tuple, I, L, T, H};
                     #{'__struct__' := _, grams := _, id := I, items := L, total := T, hits := H} ->
                         {'struct with grams', I, L, T, H};
                     #{'__struct__' := _, id := I, items := L, total := T, hits := H} -> {struct, I, L, T, H}
                 end,
                 {Id, list_to_binary(pid_to_list(Pid)), Shape, length(Items), Total, Hits}
             end || {_, Pid, _, _} <- supervisor:which_children('Elixir.Shop.CartSupervisor')]).",
        );
        let carts = carts.as_array().expect("an array");
        carts
            .iter()
            .map(|cart| {
                let number = |at: usize| cart[at].as_u64().expect("a number");
                let text = |at: usize| cart[at].as_str().expect("a text").to_owned();
                Cart {
                    id: number(0),
                    pid: text(1),
                    shape: text(2),
                    items: number(3),
                    total: number(4),
                    hits: number(5),
                }
            })
            .collect()
    }

    /// The state of each worker of the pool, in order, as text.
    pub fn pool(&self) -> Vec<String> {
        self.pool_by("sys:get_state(P)")
    }

    /// The process of each worker of the pool, in order, as text.
    pub fn pool_pids(&self) -> Vec<String> {
        self.pool_by("P")
    }

    fn pool_by(&self, what: &str) -> Vec<String> {
        let answer = self.probe().json(&format!(
            "[unicode:characters_to_binary(io_lib:format(\"~0tp\", [{what}])) ||
                 {{_, P, _, _}} <- lists:keysort(1, supervisor:which_children(shop_pool))]."
        ));
        let workers = answer.as_array().expect("an array");
        workers
            .iter()
            .map(|worker| worker.as_str().expect("a text").to_owned())
            .collect()
    }
}

/// What [`Shop::inside`] began.
#[derive(Debug)]
pub struct Inside<'a> {
    shop: &'a Shop,
    requests: Vec<JoinHandle<io::Result<String>>>,
}

impl Inside<'_> {
    /// Lets every request leave and be answered.
    ///
    /// # Panics
    /// When one was not answered with 200.
    pub fn leave(self) {
        self.shop.probe().eval("application:set_env(shop, let_go, true).");
        for request in self.requests {
            let answer = request.join().expect("the client did not panic");
            assert!(
                answer
                    .as_ref()
                    .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")),
                "a held request failed: {answer:?}"
            );
        }
    }
}

fn ask(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"
    )?;
    // The shop keeps a connection open until its client is done.
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

impl Deref for Shop {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl std::ops::DerefMut for Shop {
    fn deref_mut(&mut self) -> &mut Node {
        &mut self.node
    }
}
