//! The worker as it runs on a host: the program, many of it, signals, and what ends it in the middle.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use serde_json::Value;

use crate::harness::{
    postgres::{eventually, shared, unique},
    program::Program,
    site::walk,
};

/// A schedule of which a time came some minutes ago.
pub fn minutes_ago(minutes: i64) -> String {
    (Utc::now() - TimeDelta::minutes(minutes)).format("%M %H * * *").to_string()
}

pub fn write_schedule(program: &Program, name: &str, cron: &str, action: &str, more: &str) {
    fs::create_dir_all(program.path("schedules")).unwrap();
    let text = format!("name = \"{name}\"\ncron = \"{cron}\"\ntime_zone = \"UTC\"\naction = \"{action}\"\n{more}");
    fs::write(program.path(&format!("schedules/{name}.toml")), text).unwrap();
}

/// Databases on the shared server, and an installation for them whose worker listens where there is room.
pub fn fleet(tenants: &[String]) -> (Program, String) {
    let stem = unique("w");
    tenants.iter().for_each(|tenant| shared().create_database(&format!("{stem}_{tenant}")));
    let program = Program::set_up(shared(), &format!("{stem}_{{tenant}}"));
    let file = program.path("tenure.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, format!("{text}\n[worker]\nlisten = \"127.0.0.1:0\"\nstop_within = \"20s\"\n")).unwrap();
    (program, stem)
}

pub fn names(tenants: &[&str]) -> Vec<String> {
    tenants.iter().map(|tenant| (*tenant).to_owned()).collect()
}

/// How many backups each locker of the vault has.
fn backups(program: &Program) -> BTreeMap<String, usize> {
    let mut backups = BTreeMap::new();
    let vault = program.path("vault");
    for file in walk(&vault) {
        let name = file.strip_prefix(&vault).unwrap().to_string_lossy().into_owned();
        let parts: Vec<&str> = name.split('/').collect();
        if let ["t", locker, "b", manifest] = parts[..]
            && manifest.ends_with(".json")
        {
            *backups.entry(locker.to_owned()).or_default() += 1;
        }
    }
    backups
}

/// The records of nights in the vault.
fn nights(program: &Program, schedule: &str) -> Vec<Value> {
    let runs = program.path("vault/runs");
    let records = walk(&runs).into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "json"));
    let records = records.map(|file| serde_json::from_slice::<Value>(&fs::read(file).unwrap()).unwrap());
    records.filter(|record| record["night"]["schedule"] == schedule).collect()
}

/// A worker at work. Dropping it kills it.
pub struct Running {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (lines, into) = (BufReader::new(child.stderr.take().unwrap()).lines(), said.clone());
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| into.lock().unwrap().push(line));
        });
        Self { child, said }
    }

    pub fn of(program: &Program) -> Self {
        Self::start(program.command(&["worker"]))
    }

    pub fn has_said(&self, text: &str) -> bool {
        self.said.lock().unwrap().iter().any(|line| line.contains(text))
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Asks it to stop; gives its exit code.
    pub fn stop(&mut self) -> i32 {
        self.signal("TERM");
        self.child.wait().unwrap().code().unwrap()
    }

    pub fn all(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn once_does_what_is_due_and_nothing_twice() {
    let (program, stem) = fleet(&names(&["a", "b", "c"]));
    write_schedule(&program, "nightly", &minutes_ago(3), "backup", "window = \"12h\"\nretries = 1\n");
    write_schedule(&program, "off", &minutes_ago(3), "backup", "enabled = false\n");
    let tally =
        |document: &Value| (document["runs"][0]["tenants"]["done"].clone(), document["runs"][0]["tenants"]["current"].clone());
    let first = program.done(&["worker", "--once"]);
    assert_eq!((first["runs"].as_array().unwrap().len(), tally(&first)), (1, (3.into(), 0.into())), "{first:#}");
    let second = program.done(&["worker", "--once", "nightly"]);
    assert_eq!(tally(&second), (0.into(), 3.into()), "{second:#}");
    shared().create_database(&format!("{stem}_d"));
    assert_eq!(tally(&program.done(&["worker", "--once"])), (1.into(), 3.into()));
    assert_eq!(backups(&program).values().collect::<Vec<_>>(), [&1; 4]);
    // The run that had nothing to do added nothing.
    assert_eq!(nights(&program, "nightly").len(), 2);
    let (code, stdout, stderr) = program.say(&["-q", "worker", "--once"]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "", ""), "cron sends no mail");
    assert_eq!(program.refused(2, &["worker", "--once", "nightyl"])["kind"], "unknown-schedule");
    assert!(program.done(&["audit"])["entries"].as_array().unwrap().iter().any(|entry| entry["what"] == "backup"));
}

#[test]
fn a_timer_that_comes_too_late_fails_while_somebody_is_due() {
    let (program, _) = fleet(&names(&["a", "b"]));
    write_schedule(&program, "nightly", &minutes_ago(5), "backup", "window = \"1min\"\n");
    let (code, document) = program.run(&["worker", "--once"]);
    assert_eq!(code, 1, "{document:#}");
    let problem = &document["runs"][0]["problems"][0];
    assert!(problem["message"].as_str().unwrap().ends_with("and 2 tenants are due"), "{document:#}");
    assert!(problem["hint"].as_str().unwrap().contains("`tenure backup --all`"), "{document:#}");
    assert!(backups(&program).is_empty());
    let mut running = Running::of(&program);
    eventually("the worker says what it comes too late for", || running.has_said("2 tenants are due; their turn comes at "));
    assert_eq!(running.stop(), 0, "{}", running.all());
    program.done(&["backup", "--all"]);
    assert_eq!(program.done(&["worker", "--once"])["not_due"], serde_json::json!(["nightly"]));
}

#[test]
fn a_worker_runs_what_is_due_tells_systemd_reloads_and_stops() {
    let (program, stem) = fleet(&names(&["a", "b"]));
    write_schedule(&program, "nightly", &minutes_ago(3), "backup", "window = \"12h\"\n");
    let socket = program.path("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let told = |what: &str| {
        let mut buffer = [0; 1024];
        loop {
            let length = systemd.recv(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error}"));
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == what) {
                return;
            }
        }
    };
    // As systemd starts it, which knows the number that the process will have.
    let worker = program.command(&["worker", "--log-format", "json"]);
    let mut command = Command::new("sh");
    command.args(["-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\""]).arg(worker.get_program()).args(worker.get_args());
    command.current_dir(program.folder()).env_remove("TENURE_CONFIG").env_remove("TENURE_LOG");
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "3000000");
    let mut running = Running::start(command);
    told("READY=1");
    told("WATCHDOG=1");
    eventually("the night ends", || running.has_said("nightly: ended well"));
    assert_eq!(backups(&program).values().collect::<Vec<_>>(), [&1; 2]);
    // One id in every line of the run, and another one in the next.
    let id_of = |line: &str| serde_json::from_str::<Value>(line).ok()?["span"]["run.id"].as_str().map(str::to_owned);
    let ids: Vec<String> = running.said.lock().unwrap().iter().filter_map(|line| id_of(line)).collect();
    assert!(ids.len() >= 4 && ids.iter().all(|id| *id == ids[0]), "{}", running.all());
    assert!(
        running.said.lock().unwrap().iter().any(|line| line.contains("a: done") && id_of(line).is_some()),
        "{}",
        running.all()
    );

    // Broken: what was read before goes on, and it says why.
    let good = fs::read_to_string(program.path("schedules/nightly.toml")).unwrap();
    fs::write(program.path("schedules/nightly.toml"), good.replace("cron", "corn")).unwrap();
    running.signal("HUP");
    told("RELOADING=1");
    told("READY=1");
    eventually("it says what is wrong", || running.has_said("what was read before goes on") && running.has_said("corn"));
    let still_there = || running.said.lock().unwrap().iter().filter(|line| line.contains("nightly: backup next at")).count() == 2;
    eventually("the schedule goes on as it was", still_there);
    // Another schedule, and a new tenant: taken.
    fs::write(program.path("schedules/nightly.toml"), good).unwrap();
    shared().create_database(&format!("{stem}_c"));
    write_schedule(&program, "second", &minutes_ago(2), "backup", "tenants = [\"c\"]\n");
    running.signal("HUP");
    eventually("the new schedule runs", || running.has_said("second: ended well"));
    assert_eq!(backups(&program).values().collect::<Vec<_>>(), [&1; 3]);
    assert_eq!(running.stop(), 0, "{}", running.all());
    told("STOPPING=1");
}

#[test]
fn four_workers_that_are_killed_and_started_again_back_up_each_of_sixty_tenants_once() {
    let tenants: Vec<String> = (0..60).map(|n| format!("t{n:02}")).collect();
    let (program, _) = fleet(&tenants);
    write_schedule(&program, "nightly", &minutes_ago(3), "backup", "window = \"12h\"\nretries = 1\n");
    let mut workers: Vec<Running> = (0..4).map(|_| Running::of(&program)).collect();
    let done = || backups(&program).len();
    for (round, at) in [4, 12, 24, 40].into_iter().enumerate() {
        eventually("the night goes on", || done() >= at);
        // Killed with -9, in the middle of whatever it is at; another one begins.
        workers[round] = Running::of(&program);
    }
    eventually("every tenant is backed up", || done() == 60);
    eventually("every worker's night ends", || workers.iter().all(|worker| worker.has_said("nightly: ended well")));
    for worker in &mut workers {
        assert_eq!(worker.stop(), 0, "{}", worker.all());
    }
    let counts = backups(&program);
    assert!(counts.len() == 60 && counts.values().all(|count| *count == 1), "{counts:?}");
    assert_eq!(program.done(&["verify", "--all"])["problems"], serde_json::json!([]));
    let last = nights(&program, "nightly").iter().map(|night| night["night"]["tenants"].as_array().unwrap().len()).max();
    assert_eq!(last, Some(60));
}

#[test]
fn of_many_workers_one_expires_and_one_verifies() {
    let (program, _) = fleet(&names(&["a"]));
    program.done(&["backup", "--all"]);
    write_schedule(&program, "retention", &minutes_ago(3), "expire", "");
    write_schedule(&program, "integrity", &minutes_ago(2), "verify", "");
    write_schedule(&program, "returned", &minutes_ago(2), "reconcile", "");
    let workers: Vec<Child> = (0..3)
        .map(|_| program.command(&["worker", "--once"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    for mut worker in workers {
        assert_eq!(worker.wait().unwrap().code(), Some(0));
    }
    for schedule in ["retention", "integrity", "returned"] {
        let records = nights(&program, schedule);
        assert_eq!(records.len(), 1, "{schedule}: {records:#?}");
        assert_eq!(records[0]["outcome"], "done", "{schedule}");
    }
    // What is found is found once, and said by whoever found it.
    let manifest = walk(&program.path("vault/t")).into_iter().find(|file| file.to_string_lossy().contains("/c/")).unwrap();
    fs::remove_file(manifest).unwrap();
    write_schedule(&program, "integrity", &minutes_ago(1), "verify", "");
    let (code, document) = program.run(&["worker", "--once", "integrity"]);
    assert_eq!((code, document["runs"][0]["ended_well"].as_bool()), (5, Some(false)), "{document:#}");
    assert_eq!(program.run(&["worker", "--once", "integrity"]).0, 0);
}

#[test]
fn a_stop_in_the_middle_leaves_nothing_half_listed_and_the_next_worker_goes_on() {
    let (program, stem) = fleet(&names(&["a"]));
    let database = format!("{stem}_a");
    shared().sql(&database, "CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n");
    write_schedule(&program, "nightly", &minutes_ago(3), "backup", "window = \"12h\"\n");
    let file = program.path("tenure.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\n[limits]\n"));
    fs::write(&file, text.replace("\n[limits]\n", "\n[limits]\nlock_timeout = \"10 min\"\n")).unwrap();
    // Somebody alters the table, and takes a while.
    let mut alters = shared()
        .program("psql", &database)
        .args(["-c", "BEGIN; LOCK TABLE t; SELECT pg_sleep(600)"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let waits = |what: &str| {
        let asked = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND {what}");
        shared().sql("postgres", &asked).trim() != "0"
    };
    eventually("the table is locked", || waits("query LIKE '%pg_sleep%' AND wait_event = 'PgSleep'"));
    let mut running = Running::of(&program);
    eventually("the backup waits", || waits("application_name LIKE 'tenure%' AND wait_event_type = 'Lock'"));
    assert_eq!(running.stop(), 0, "{}", running.all());
    assert!(running.has_said("nightly: stopped: tenants: 1 interrupted"), "{}", running.all());
    assert!(backups(&program).is_empty());
    shared().sql("postgres", &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"));
    alters.wait().unwrap();
    let document = program.done(&["worker", "--once"]);
    assert_eq!(document["runs"][0]["tenants"]["done"], 1, "{document:#}");
    assert_eq!(program.done(&["verify", "--all"])["problems"], serde_json::json!([]));
}

#[test]
fn the_units_are_understood_by_systemd() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd");
    let scratch = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // It looks for the program that a unit starts.
        let text = fs::read_to_string(&path).unwrap().replace("/usr/local/bin/tenure", env!("CARGO_BIN_EXE_tenure"));
        let text = text
            .replace("User=tenure", "User=root")
            .replace("Group=tenure", "Group=root")
            .replace("Documentation=man:tenure(1)\n", "");
        let copy = scratch.path().join(path.file_name().unwrap());
        fs::write(&copy, text).unwrap();
        files.push(copy);
    }
    assert_eq!(files.len(), 5);
    // An installed program reads its own units; where there is none, nothing can be said.
    let Ok(said) = Command::new("systemd-analyze").arg("verify").args(&files).output() else { return };
    let stderr = String::from_utf8_lossy(&said.stderr);
    let ours: Vec<&str> = stderr.lines().filter(|line| line.contains("tenure")).collect();
    assert!(said.status.success() && ours.is_empty(), "{stderr}");
    for (file, cron) in [("nightly", "30 2 * * *"), ("retention", "30 5 * * *"), ("integrity", "0 12 * * 0")] {
        let schedule = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schedules/{file}.toml"))).unwrap();
        assert!(schedule.contains(&format!("cron = \"{cron}\"")), "{file}: the timer beside it says another time");
    }
}
