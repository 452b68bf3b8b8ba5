//! A PostgreSQL server of its own for one test, on a free port of loopback.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::broker::{Broker, free_port};
use harness::process::{Output, Running};
use harness::provision;
use harness::wait::Wait;

/// How long to wait before the server is asked again whether it serves.
const POLL: Duration = Duration::from_millis(50);

/// The server; it ends and its files go when it is dropped.
pub(crate) struct Postgres {
    port: u16,
    programs: PathBuf,
    home: PathBuf,
    server: Option<Running>,
}

impl Postgres {
    /// Starts an empty server and returns when it serves.
    pub(crate) fn start(broker: &Broker) -> Postgres {
        let programs = provision::postgresql();
        // The server refuses to run as root, and its user need not be able to reach the directory of the test.
        let home = PathBuf::from(output(as_user("mktemp").args(["-d", "-t", "weir-postgres-XXXXXX"])));
        let data = home.join("data");
        let mut init = as_user(&programs.join("initdb").display().to_string());
        output(init.current_dir(&home).args(["--auth=trust", "--username=weir", "--no-sync", "--pgdata"]).arg(&data));
        let port = free_port();
        let mut server = as_user(&programs.join("postgres").display().to_string());
        server.current_dir(&home).arg("-D").arg(&data).args(["-p", &port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "shared_buffers=16MB"] {
            server.args(["-c", setting]);
        }
        let server = Running::start(&mut server, &broker.dir().join("postgres.log"));
        let mut postgres = Postgres { port, programs, home, server: Some(server) };
        let mut wait = Wait::begin();
        while !postgres.psql("select 1").status().is_ok_and(|status| status.success()) {
            wait.goes_on(|| "PostgreSQL to serve".to_owned());
            let said = postgres.server.as_mut().expect("it was started above").next(POLL);
            assert_ne!(said, Output::End, "PostgreSQL has ended; its log is {}", broker.dir().display());
        }
        postgres
    }

    /// The address for JDBC.
    pub(crate) fn url(&self) -> String {
        format!("jdbc:postgresql://127.0.0.1:{}/postgres", self.port)
    }

    /// The rows of a query, columns divided by `|`; none where the server refuses it, as it does for a table that is not
    /// there yet.
    pub(crate) fn query(&self, sql: &str) -> Vec<String> {
        let output = self.psql(sql).output().expect("psql starts");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    fn psql(&self, sql: &str) -> Command {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "weir", "-d", "postgres"]);
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "-c", sql])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        psql
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.server.take());
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// A command as an unprivileged user: as ourselves where we are none other, and else as the one that Debian's package makes.
fn as_user(program: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    // It becomes the program, so that a signal to it reaches that.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", program]).current_dir("/");
    command
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("/proc is there")) == 0
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} did not start: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{command:?} failed ({})\n{}", output.status, text(&output.stderr));
    text(&output.stdout)
}
