//! The injector: it owns the fleet, its links and its Redis, and carries out a schedule.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, sleep_until};

use super::oracle::DOMAINS;
use super::schedule::{Fault, Step};
use super::world::{Place, World};
use crate::support::client::TEST_TIMEOUT;
use crate::support::domain::DomainFile;
use crate::support::link::{Direction, Link};
use crate::support::redis::Redis;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::wire;

/// The ttl of a domain, and the values that a reload may set.
pub(super) const TTL: &str = "20s";
const TTLS: [&str; 3] = ["0s", "100ms", "2s"];

const TRIM_EVERY: Duration = Duration::from_millis(20);

/// How a sidecar of the fleet is started.
pub(super) struct SidecarRecipe {
    pub(super) domains: Vec<DomainFile>,
    pub(super) lease: Duration,
    /// Another build of the program, and the guard that it shall remove.
    pub(super) without: Option<(PathBuf, String)>,
}

/// The fleet.
pub(super) struct Fleet {
    world: Arc<World>,
    recipe: SidecarRecipe,
    redis: Redis,
    members: Vec<Member>,
    /// Sidecars that are being shut down.
    leaving: JoinSet<()>,
    /// The task that trims the log.
    trimming: JoinSet<()>,
    rng: fastrand::Rng,
}

struct Member {
    link: Link,
    sidecar: Sidecar,
    life: usize,
}

/// The beginning or the end of a fault.
#[derive(Debug, Clone, Copy)]
enum Edge {
    Begins,
    Ends,
}

impl SidecarRecipe {
    async fn start(&self, link: &Link) -> Sidecar {
        let domains: Vec<_> = self.domains.iter().collect();
        let setup = match &self.without {
            None => Setup::of(&domains),
            Some((program, guard)) => {
                Setup::of_program(program, &domains).env("BFB_TEST_WITHOUT_GUARD", guard)
            }
        };
        // The user that the list of permissions in `docs/redis.md` makes.
        let redis = format!("redis://bfb:secret@{}", link.addr());
        let lease = format!("{}ms", self.lease.as_millis());
        setup
            .insecure()
            .args(&["--memory", "64MiB", "--redis", &redis, "--lease", &lease, "--drain", "5s"])
            .start()
            .await
    }
}

impl Fleet {
    pub(super) async fn start(
        world: &Arc<World>,
        members: usize,
        recipe: SidecarRecipe,
        seed: u64,
    ) -> Self {
        let redis = block_in_place(Redis::start);
        let rng = fastrand::Rng::with_seed(seed);
        let world = Arc::clone(world);
        let leaving = JoinSet::new();
        let trimming = JoinSet::new();
        let mut fleet = Self { world, recipe, redis, members: Vec::new(), leaving, trimming, rng };
        for number in 0..members {
            let link = Link::to(fleet.redis.addr()).await;
            let sidecar = fleet.recipe.start(&link).await;
            fleet.members.push(Member { link, sidecar, life: 1 });
            fleet.announce(number);
        }
        fleet
    }

    /// From now on readers and writers send requests to this process.
    fn announce(&self, number: usize) {
        let Member { sidecar, life, .. } = &self.members[number];
        let listen = sidecar.listen();
        let admin = sidecar.admin_address();
        self.world.set(number, Some(Place { member: number, life: *life, listen, admin }));
    }

    /// Carries out the schedule, which began with the oracle, until it is done or the run is over.
    pub(super) async fn run_schedule(&mut self, steps: &[Step]) {
        let began = Instant::now().checked_sub(self.world.oracle.now()).unwrap();
        let mut edges: Vec<_> = steps
            .iter()
            .flat_map(|step| [(step.from, Edge::Begins, step), (step.until, Edge::Ends, step)])
            .collect();
        edges.sort_by_key(|(at, _, _)| *at);
        for (at, edge, step) in edges {
            tokio::select! {
                () = self.world.over.cancelled() => return,
                () = sleep_until(began + at) => {}
            }
            match edge {
                Edge::Begins => self.begin(step).await,
                Edge::Ends => self.end(step).await,
            }
        }
    }

    async fn begin(&mut self, step: &Step) {
        self.world.count("fault", &step.fault.name());
        let Member { link, sidecar, .. } = &self.members[step.member];
        match step.fault {
            Fault::Cut(how) => link.cut(how),
            Fault::Drop(how) => link.drop_connections(how),
            Fault::Late | Fault::Fade | Fault::Trickle => link.slow(step.fault.pace(&mut self.rng)),
            Fault::HalfClose(way) => link.half_close(way),
            Fault::BlackHole(way) => {
                [Direction::Up, Direction::Down]
                    .into_iter()
                    .filter(|one| way.is_none_or(|way| way == *one))
                    .for_each(|way| link.black_hole(way));
            }
            Fault::Pause => sidecar.signal("STOP"),
            Fault::Kill => {
                self.world.set(step.member, None);
                sidecar.signal("KILL");
            }
            Fault::Replace => self.replace(step.member).await,
            Fault::RedisWithOldData => self.redis.command(&["SAVE"]),
            Fault::RedisWithData => block_in_place(|| {
                self.redis.command::<()>(&["SAVE"]);
                self.redis.kill();
            }),
            Fault::RedisWithoutData => block_in_place(|| {
                self.redis.kill();
                self.redis.lose();
            }),
            Fault::RedisPause => self.redis.pause(),
            Fault::Flush => self.redis.flush(),
            Fault::Subscribers => {
                self.redis.command::<i64>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            }
            Fault::Trim => drop(self.trimming.spawn(trim(self.redis.url()))),
            Fault::EndlessClaims => drop(self.trimming.spawn(keep_claims(self.redis.url()))),
            Fault::SourceHangs => drop(self.world.sources_answer.send_replace(false)),
            Fault::Reload => {
                let ttl = TTLS[self.rng.usize(..TTLS.len())];
                self.reload(step.member, ttl);
            }
        }
    }

    async fn end(&mut self, step: &Step) {
        match step.fault {
            Fault::Cut(_)
            | Fault::Drop(_)
            | Fault::Late
            | Fault::Trickle
            | Fault::HalfClose(_)
            | Fault::BlackHole(_) => {
                self.members[step.member].link.heal();
            }
            Fault::Pause => self.members[step.member].sidecar.signal("CONT"),
            Fault::Kill => {
                let member = &mut self.members[step.member];
                (member.sidecar, member.life) =
                    (self.recipe.start(&member.link).await, member.life + 1);
                self.announce(step.member);
            }
            Fault::RedisWithData | Fault::RedisWithoutData => {
                block_in_place(|| self.redis.revive());
            }
            Fault::RedisWithOldData => block_in_place(|| {
                self.redis.kill();
                self.redis.revive();
            }),
            Fault::RedisPause => self.redis.resume(),
            Fault::Trim | Fault::EndlessClaims => self.trimming.shutdown().await,
            Fault::SourceHangs => drop(self.world.sources_answer.send_replace(true)),
            Fault::Reload => self.reload(step.member, TTL),
            // Bytes on their way over a link that fades are swallowed with those after them.
            Fault::Fade | Fault::Replace | Fault::Flush | Fault::Subscribers => {}
        }
    }

    /// Puts another ttl into the domain files of a sidecar that runs.
    fn reload(&self, number: usize, ttl: &str) {
        let sidecar = &self.members[number].sidecar;
        for domain in &self.recipe.domains {
            sidecar.replace(&domain.name, &domain.clone().head(&cache_of(ttl)).text());
        }
        sidecar.signal("HUP");
    }

    /// The old process goes on answering its connections until it has drained.
    async fn replace(&mut self, number: usize) {
        let member = &mut self.members[number];
        member.sidecar.signal("TERM");
        let new = self.recipe.start(&member.link).await;
        let old = std::mem::replace(&mut member.sidecar, new);
        let life = member.life + 1;
        member.life = life;
        self.announce(number);
        self.leaving.spawn(async move {
            old.exit_status().await;
        });
    }

    /// Every fault is over: all members hold their leases again, all acknowledge, and memory
    /// answers.
    pub(super) async fn wait_recovered(&mut self) {
        while self.leaving.join_next().await.is_some() {}
        let healthy = async {
            for member in &self.members {
                while !holds_all_leases(&member.sidecar.admin("/status").await.json()) {
                    tokio::task::yield_now().await;
                }
            }
            for domain in DOMAINS {
                self.all_acknowledge(domain).await;
            }
        };
        let recovered = tokio::time::timeout(TEST_TIMEOUT, healthy).await;
        assert!(recovered.is_ok(), "the fleet never recovered");
        for member in &self.members {
            // Its last domain file may not be in force yet.
            let hits = async {
                while !member
                    .sidecar
                    .get("/v2/complete/0")
                    .await
                    .header("cache-status")
                    .starts_with("bfb; hit;")
                {}
            };
            assert!(
                tokio::time::timeout(TEST_TIMEOUT, hits).await.is_ok(),
                "memory does not answer"
            );
        }
    }

    /// An invalidation that all members have reported; killed ones are waited for once.
    async fn all_acknowledge(&self, domain: &str) {
        let invalidation =
            serde_json::json!({"domain": domain, "all": true, "wait": "fleet", "timeout": "10s"});
        let members = u64::try_from(self.members.len()).unwrap();
        loop {
            let admin = self.members[0].sidecar.admin_address();
            let answer = wire::once(admin, &wire::post("/invalidate", &invalidation), TEST_TIMEOUT)
                .await
                .unwrap();
            let acknowledgement: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(answer.status, 200, "{acknowledgement}");
            if acknowledgement["silent"] == serde_json::json!([])
                && acknowledgement["sidecars"] == members
            {
                return;
            }
        }
    }

    /// The last lines of a sidecar's log, for the report.
    pub(super) fn last_log_lines(&self) -> String {
        let tail =
            |text: String| text.lines().rev().take(12).map(str::to_owned).collect::<Vec<_>>();
        let all = self.members.iter().enumerate().map(|(number, member)| {
            let lines: Vec<_> = tail(member.sidecar.log()).into_iter().rev().collect();
            format!(
                "sidecar {number} (its life {}) said last:\n    {}\n",
                member.life,
                lines.join("\n    ")
            )
        });
        all.collect()
    }
}

/// Trims each log to its last entry; no member may rely on older ones.
async fn trim(redis: String) {
    let mut redis =
        redis::Client::open(redis).unwrap().get_multiplexed_async_connection().await.unwrap();
    loop {
        for domain in DOMAINS {
            let log = bfb::bus::RedisNames::new("default", domain).log();
            redis::cmd("XTRIM").arg(log).arg("MAXLEN").arg(1).exec_async(&mut redis).await.unwrap();
        }
        tokio::time::sleep(TRIM_EVERY).await;
    }
}

/// The section `cache` of a domain file.
pub(super) fn cache_of(ttl: &str) -> String {
    format!("cache: {{ttl: {ttl}, tags: '[.a.tag]'}}")
}

/// Removes the expiry of each claim.
async fn keep_claims(redis: String) {
    let mut redis =
        redis::Client::open(redis).unwrap().get_multiplexed_async_connection().await.unwrap();
    loop {
        let claims: Vec<String> =
            redis::cmd("KEYS").arg("*:claim:*").query_async(&mut redis).await.unwrap();
        for claim in claims {
            redis::cmd("PERSIST").arg(claim).exec_async(&mut redis).await.unwrap();
        }
        tokio::time::sleep(TRIM_EVERY).await;
    }
}

fn holds_all_leases(status: &Value) -> bool {
    let domains = status["fleet"]["domains"].as_array();
    domains.is_some_and(|domains| domains.iter().all(|domain| domain["lease_held"] == true))
}
