//! An app on the Fly of the tests: the shop as machines, each with a network, an epmd and a copy of the image of its own, distributed by
//! the lines that Fly.io's guide has for rel/env.sh.eex.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::fleet::quick;
use crate::fly::{Fly, FlyIlls, Namespaces};
use crate::flyhot::Flyhot;
use crate::moto::Moto;
use crate::otp::Otp;
use crate::probe::Probe;
use crate::release::Release;
use crate::rounds::Random;
use crate::scratch::Scratch;
use crate::traffic::TrafficBuilder;
use crate::variant::copy;
use crate::wait::wait_or_tell;

/// Where the Machines API is in the network of the machines, as on Fly's own.
const API: u16 = 4280;

/// Where S3 is there.
const S3: u16 = 9000;

/// Where each shop listens on its machine, and how many carts it has.
const SHOP: u16 = 4000;
const CARTS: u64 = 20;

/// A release boots in two to three seconds alone on the machine; tests run beside each other.
const BOOT: Duration = Duration::from_secs(90);

/// What brings a release into the private network.
pub(crate) const DISTRIBUTED: &str = r#"
export RELEASE_DISTRIBUTION="${RELEASE_DISTRIBUTION_OF_TEST:-name}"
export RELEASE_NODE="${RELEASE_NODE_OF_TEST:-${FLY_APP_NAME}-${FLY_IMAGE_REF##*-}@${FLY_PRIVATE_IP}}"
export ERL_AFLAGS="${ERL_AFLAGS_OF_TEST:--proto_dist inet6_tcp} -start_epmd false"
"#;

/// An epmd that ends with its machine, and the release, which some machines come to later.
const INIT: &str = "export HOME=$PWD LC_ALL=C.UTF-8
setpriv --pdeathsig KILL -- app/erts-*/bin/epmd &
[ -z \"$BEFORE_BOOT_S\" ] || sleep \"$BEFORE_BOOT_S\"
exec $BOOT app/bin/shop start";

/// Asks the shop for a page, and no longer for more once that has come: the shop keeps connections open.
const ASK: &str = r#"
exec 3<>/dev/tcp/127.0.0.1/$port || exit
printf 'GET %s HTTP/1.1\r\nHost: shop\r\n\r\n' "$path" >&3
while read -r -t 5 line <&3; do
    line=${line%$'\r'}
    case $line in
        [Cc]ontent-[Ll]ength:*) length=${line#*: } ;;
        '') break ;;
    esac
done
head -c "$length" <&3
"#;

/// The app, its API and its network.
#[derive(Debug)]
pub struct Machines {
    /// The API.
    pub fly: Fly,
    network: Namespaces,
    images: Scratch,
}

impl Machines {
    /// Without any machine.
    pub fn start(name: &str) -> Self {
        let network = Namespaces::start();
        let ills = FlyIlls {
            limits: false,
            ..FlyIlls::default()
        };
        let fly = Fly::on(network.host(), ills, Random::new(name));
        network.offer(API, fly.address());
        Self {
            fly,
            network,
            images: Scratch::new("images"),
        }
    }

    /// An image with a release in it, with this cookie: its name.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn image(&self, tag: &str, release: &Release, cookie: &str) -> String {
        let root = self.unpushed(tag, release, cookie);
        let name = format!("registry.fly.io/{}:deployment-{tag}", Fly::APP);
        self.fly.push(&name, &root);
        name
    }

    /// The same, which nobody knows yet but the one who builds: its root.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn unpushed(&self, tag: &str, release: &Release, cookie: &str) -> PathBuf {
        let root = self.images.path().join(tag);
        let app = root.join("app");
        fs::create_dir_all(&app).expect("our own directory");
        copy(release.directory(), &app);
        fs::write(app.join("releases/COOKIE"), cookie).expect("our own directory");
        let env = app.join("releases").join(release.version()).join("env.sh");
        let given = fs::read_to_string(&env).expect("Mix wrote it");
        fs::write(&env, given + DISTRIBUTED).expect("our own directory");
        symlink(Flyhot::binary(), root.join("flyhot")).expect("our own directory");
        root
    }

    /// There is a bucket in the network, and every machine that is made from now on knows it, boots by it, and knows the Machines API.
    pub fn offer_bucket(&self, bucket: SocketAddr) {
        self.network.offer(S3, bucket);
        let of_bucket = self.of_bucket();
        for (name, value) in &of_bucket {
            self.fly.secret(name, value);
        }
        for (name, value) in [
            ("AWS_REGION", "auto"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("FLY_FLAPS_BASE_URL", &Self::at(API)),
            // A machine of the tests has no file system of its own, but begins in its root.
            ("RELEASE_ROOT", "app"),
            ("FLYHOT_ORCHESTRATE", "said"),
            ("BOOT", "./flyhot boot --wait 10s --"),
        ] {
            self.fly.secret(name, value);
        }
    }

    /// A command of the network that knows the bucket as machines do.
    pub fn knows_bucket(&self, flyhot: Flyhot) -> Flyhot {
        let of_bucket = self.of_bucket();
        of_bucket
            .iter()
            .fold(flyhot, |flyhot, (name, value)| flyhot.env(name, value))
    }

    fn of_bucket(&self) -> [(&'static str, String); 4] {
        [
            ("BUCKET_NAME", Moto::BUCKET.to_owned()),
            ("AWS_ENDPOINT_URL_S3", Self::at(S3)),
            ("AWS_ACCESS_KEY_ID", "tid_hidden".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "tsec_hidden".to_owned()),
        ]
    }

    fn at(port: u16) -> String {
        format!("http://[{}]:{port}", Namespaces::SERVICES)
    }

    /// Traffic on a machine: visits of its carts in turn, but for the first, which is left to [`Machines::visits`].
    pub fn traffic(&self, id: &str) -> TrafficBuilder {
        let port = self.network.reach(id, SHOP);
        TrafficBuilder::new(port, |request| format!("/cart/{}", request % (CARTS - 1) + 2))
    }

    /// A machine of that image, which runs the shop; more variables of its environment may change how.
    pub fn shop(&self, image: &str, group: &str, region: &str, more: &[(&str, &str)]) -> String {
        let mut env =
            json!({"SHOP_CARTS": CARTS.to_string(), "SHOP_POOL": "5", "SHOP_PORT": SHOP.to_string()});
        for (name, value) in more {
            env[*name] = json!(value);
        }
        self.machine(image, group, region, &["sh", "-c", INIT], env)
    }

    /// Machines of that image in these regions, which serve.
    pub fn shops<const N: usize>(&self, image: &str, regions: [&str; N]) -> [String; N] {
        let shops = regions.map(|region| self.shop(image, "app", region, &[]));
        for id in &shops {
            self.serves(id);
        }
        shops
    }

    /// A machine of that image, which runs something else.
    pub fn other(&self, image: &str, group: &str, region: &str) -> String {
        self.machine(image, group, region, &["sleep", "infinity"], json!({}))
    }

    fn machine(&self, image: &str, group: &str, region: &str, words: &[&str], env: Value) -> String {
        self.fly.make(&json!({"region": region, "config": {
            "image": image, "init": {"exec": words}, "env": env, "restart": {"policy": "no"},
            "metadata": {"fly_platform_version": "v2", "fly_process_group": group},
        }}))
    }

    /// Waits until the shop of a machine serves.
    pub fn serves(&self, id: &str) {
        wait_or_tell(
            &format!("the shop of {id} serves"),
            BOOT,
            // Looked at first, since it costs no process.
            || self.log(id).contains("listening") && self.asked(id).is_some(),
            || self.log(id),
        );
    }

    /// The judge of a machine's node, in the network of that machine alone: what happens to the one of all machines is nothing to it.
    ///
    /// # Panics
    /// If the machine is not there.
    pub fn probe(
        &self,
        otp: Otp,
        id: &str,
        name: &str,
        cookie: &str,
        flags: impl IntoIterator<Item = String>,
    ) -> Probe {
        let machines = self.fly.machines();
        let machine = machines.iter().find(|machine| machine["id"] == id);
        let address = machine.expect("it is there")["private_ip"]
            .as_str()
            .expect("a text");
        let (network, node) = (self.network.of(id), format!("{name}@{address}"));
        Probe::within(&network, otp, &node, cookie, flags)
    }

    /// Nothing reaches a machine over the network any more, and nothing comes from it.
    pub fn cut(&self, id: &str) {
        self.network.cut(id);
    }

    /// Ends [`Machines::cut`].
    pub fn mend(&self, id: &str) {
        self.network.mend(id);
    }

    /// What a machine wrote since it was started.
    fn log(&self, id: &str) -> String {
        fs::read_to_string(self.fly.root(id).with_extension("log")).unwrap_or_default()
    }

    /// The version that the shop of a machine says it is.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn version(&self, id: &str) -> String {
        self.asked(id)
            .unwrap_or_else(|| panic!("the shop of {id} does not answer"))
    }

    fn asked(&self, id: &str) -> Option<String> {
        self.page(id, "/health")?["version"].as_str().map(str::to_owned)
    }

    /// How often the first cart of a machine was visited, this visit with them.
    ///
    /// # Panics
    /// If the shop does not answer.
    pub fn visits(&self, id: &str) -> u64 {
        let cart = self.page(id, "/cart/1");
        let visits = cart.as_ref().and_then(|cart| cart["hits"].as_u64());
        visits.unwrap_or_else(|| panic!("the cart of {id}: {cart:?}"))
    }

    fn page(&self, id: &str, path: &str) -> Option<Value> {
        let script = format!("port={SHOP} path={path}\n{ASK}");
        let answer = self.fly.run(id, &["bash", "-c", &script])?;
        serde_json::from_str(answer.trim()).ok()
    }

    /// `flyhot …` in the network of the machines, with what somebody has who may do everything with the app.
    pub fn flyhot<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Flyhot {
        Flyhot::new(words)
            .beside(&self.network)
            .env(
                "FLY_FLAPS_BASE_URL",
                &format!("http://[{}]:{API}", Namespaces::SERVICES),
            )
            .env("FLY_API_TOKEN", Fly::TOKEN)
            .env("FLY_APP_NAME", Fly::APP)
            // A machine of the tests has no file system of its own, but begins in its root.
            .env("RELEASE_ROOT", "app")
    }

    /// `flyhot rollout --inventory fly`, with a store in that directory, whose nodes are watched for a moment.
    ///
    /// # Panics
    /// If a path is no text.
    pub fn rollout(&self, release: &Release, store: &Path) -> Flyhot {
        let release = release.directory().to_str().expect("our own");
        self.flyhot(["rollout", "--inventory", "fly", "--release", release])
            .args(["--store", store.to_str().expect("our own"), "--output", "json"])
            .args(["--policy", quick().to_str().expect("our own")])
    }
}
