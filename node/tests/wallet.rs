//! The wallet, through the real program: made, taken over, unlocked, backed up, restored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use antiphon_proto::SecretKey;
use common::{Machine, missing, wait_for};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};
use serde_json::Value;

const PLAIN: &str = "antiphon key v1\n0707070707070707070707070707070707070707070707070707070707070707\n";

fn plain_public() -> String {
    SecretKey::from_seed(&[7; 32]).public().to_string()
}

fn keys(machine: &Machine) -> PathBuf {
    machine.data().join("keys")
}

/// A file that only its owner can read.
fn secret(path: PathBuf, text: &str) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn shown(machine: &Machine) -> Value {
    machine.json(&["wallet", "show"])
}

/// A command that must fail: its exit code and what it said.
fn fails(machine: &Machine, args: &[&str]) -> (i32, String) {
    failed(&machine.run(args))
}

fn failed(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The wallet of a running peer; the peer is stopped.
fn up(machine: &Machine) -> String {
    let peer = machine.up(&[]);
    let wallet = machine.json(&["status"])["wallet"].as_str().unwrap().to_owned();
    let (status, _) = peer.stop();
    assert!(status.success());
    wallet
}

fn no_music(machine: &Machine) {
    // A start without any would make and scan samples, which has nothing to do with this.
    let settings = machine.path("home").join(".config/antiphon");
    fs::create_dir_all(&settings).unwrap();
    let music = machine.music();
    fs::write(settings.join("config.toml"), format!("[library]\nfolders = [{:?}]\n", music)).unwrap();
}

#[test]
fn a_start_without_anybody_makes_a_wallet_and_the_next_one_has_it() {
    let machine = Machine::new();
    no_music(&machine);
    assert_eq!(fails(&machine, &["wallet", "show"]).0, 3);
    let wallet = up(&machine);
    assert_eq!(wallet.len(), 64);
    for file in ["wallet.json", "wallet.password"] {
        assert_eq!(fs::metadata(keys(&machine).join(file)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(up(&machine), wallet);
    let show = shown(&machine);
    assert_eq!((&show["wallet"], &show["protection"]), (&wallet.clone().into(), &"password_beside".into()));
    assert_eq!(show["kdf"]["passes"], 1);
    assert_eq!(machine.json(&["wallet", "unlock"])["unlocked_by"], "beside");
    let (code, said) = fails(&machine, &["wallet", "new"]);
    assert_eq!((code, said.contains(&wallet)), (1, true), "{said}");

    // Whoever only reads needs no password.
    fs::remove_file(keys(&machine).join("wallet.password")).unwrap();
    assert_eq!(machine.json(&["status"])["wallet"], wallet.as_str());
    let (code, said) = fails(&machine, &["scan"]);
    assert_eq!((code, said.contains("nothing here opens it")), (1, true), "{said}");
}

#[test]
fn a_key_of_an_earlier_version_is_taken_over() {
    let machine = Machine::new();
    no_music(&machine);
    let plain = secret(keys(&machine).join("wallet.key"), PLAIN);
    assert_eq!(shown(&machine)["protection"], "none");
    let (code, said) = fails(&machine, &["wallet", "unlock"]);
    assert_eq!((code, said.contains("in clear")), (1, true), "{said}");
    assert_eq!(up(&machine), plain_public());
    assert!(!plain.exists());
    let migrated = keys(&machine).join("wallet.key.migrated");
    assert_eq!(fs::read_to_string(&migrated).unwrap(), PLAIN);
    assert_eq!(shown(&machine)["plain_copies"][0], migrated.to_str().unwrap());
    // As a kill before the last step leaves it.
    fs::rename(&migrated, &plain).unwrap();
    assert_eq!(up(&machine), plain_public());
    assert!(migrated.exists() && !plain.exists());
    // Another key is never touched.
    secret(plain.clone(), &PLAIN.replace("07", "08"));
    let (code, said) = fails(&machine, &["up", "--http", "127.0.0.1:0"]);
    assert_eq!((code, said.contains("two wallets")), (1, true), "{said}");
    assert!(plain.exists());
}

#[test]
fn a_password_of_ones_own_is_needed_from_then_on() {
    let machine = Machine::new();
    no_music(&machine);
    let wallet = plain_public();
    secret(keys(&machine).join("wallet.key"), PLAIN);
    let password = secret(machine.path("password"), "correct horse\n");
    let file = password.to_str().unwrap();
    let (code, said) = fails(&machine, &["wallet", "change-password"]);
    assert_eq!((code, said.contains("--password-file")), (2, true), "{said}");
    assert_eq!(fails(&machine, &["wallet", "change-password", "--password-file", "/nowhere"]).0, 3);
    let changed = machine.json(&["wallet", "change-password", "--password-file", file]);
    assert_eq!(
        (&changed["wallet"], &changed["protection"]),
        (&wallet.clone().into(), &"own_password".into())
    );
    assert!(!keys(&machine).join("wallet.password").exists());
    assert_eq!(shown(&machine)["kdf"]["memory_kib"], 65_536);

    // Without it, a start says what it tried and what to do.
    let (code, said) = fails(&machine, &["up", "--http", "127.0.0.1:0"]);
    for part in
        ["wallet.json", "systemd credential", "wallet.password_file is not set", "terminal", "chmod 600"]
    {
        assert!(code == 1 && said.contains(part), "{part}: {said}");
    }
    // The wrong one, one that others can read, and the right one.
    let with = |args: &[&str]| {
        machine.command().env("ANTIPHON__WALLET__PASSWORD_FILE", &password).args(args).output().unwrap()
    };
    assert!(with(&["wallet", "unlock"]).status.success());
    secret(password.clone(), "battery staple\n");
    let (code, said) = failed(&with(&["up", "--http", "127.0.0.1:0"]));
    assert_eq!((code, said.contains(&format!("the password in {file} is not"))), (1, true), "{said}");
    secret(password.clone(), "correct horse");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o640)).unwrap();
    let (code, said) = failed(&with(&["wallet", "unlock"]));
    assert_eq!((code, said.contains("chmod 600")), (1, true), "{said}");

    // Nothing of it is logged, however much is.
    secret(password.clone(), "correct horse");
    let output = machine
        .command()
        .env("ANTIPHON__WALLET__PASSWORD_FILE", &password)
        .env("RUST_LOG", "trace")
        .args(["scan", "-vv"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("TRACE"), "{said}");
    assert!(!said.contains("correct horse") && !said.contains(&"07".repeat(32)));

    // As systemd hands it over.
    let credentials = machine.path("credentials");
    secret(credentials.join("antiphon-wallet-password"), "correct horse");
    let mut command = machine.command();
    command.env("CREDENTIALS_DIRECTORY", &credentials);
    let peer = machine.up_by(command, &[]);
    assert_eq!(machine.json(&["status"])["wallet"], wallet.as_str());
    // What writes waits for the peer's end.
    let (code, said) = fails(&machine, &["wallet", "change-password", "--password-file", file]);
    assert_eq!((code, said.contains("in use")), (1, true), "{said}");
    drop(peer);

    let path = keys(&machine).join("wallet.json");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = fails(&machine, &["wallet", "show"]);
    assert_eq!((code, said.contains("chmod 600")), (1, true), "{said}");
}

/// The settings may name the next password before the wallet has it.
#[test]
fn the_password_file_of_the_settings_becomes_the_password() {
    let machine = Machine::new();
    machine.json(&["wallet", "new"]);
    let password = secret(machine.path("password"), "correct horse");
    let file = password.to_str().unwrap();
    let with = |args: &[&str]| {
        machine.command().env("ANTIPHON__WALLET__PASSWORD_FILE", &password).args(args).output().unwrap()
    };
    let (code, said) = failed(&with(&["wallet", "unlock"]));
    assert_eq!((code, said.contains("change-password --password-file")), (1, true), "{said}");
    assert!(with(&["wallet", "change-password", "--password-file", file]).status.success());
    assert!(with(&["wallet", "unlock"]).status.success());
    // Without the old one it cannot be changed.
    secret(password.clone(), "battery staple");
    let (code, said) = failed(&with(&["wallet", "change-password", "--password-file", file]));
    assert_eq!((code, said.contains("nothing here opens it")), (1, true), "{said}");
}

#[test]
fn a_backup_brings_the_same_key_elsewhere() {
    let machine = Machine::new();
    let wallet = machine.json(&["wallet", "new"])["wallet"].as_str().unwrap().to_owned();
    let password = secret(machine.path("password"), "correct horse");
    let (password, backup) = (password.to_str().unwrap(), machine.path("backup.json"));
    let backup = backup.to_str().unwrap();
    assert_eq!(fails(&machine, &["wallet", "backup", backup]).0, 2);
    machine.json(&["wallet", "backup", backup, "--password-file", password]);
    let text = fs::read_to_string(backup).unwrap();
    assert!(text.contains(&wallet) && text.contains("65536"), "{text}");
    let (code, said) = fails(&machine, &["wallet", "backup", backup, "--password-file", password]);
    assert_eq!((code, said.contains("not overwritten")), (1, true), "{said}");

    let other = Machine::new();
    no_music(&other);
    let restore = ["wallet", "restore", backup, "--password-file", password];
    assert_eq!(fails(&other, &["wallet", "restore", "/nowhere"]).0, 3);
    let wrong = secret(other.path("wrong"), "battery staple");
    let (code, said) =
        fails(&other, &["wallet", "restore", backup, "--password-file", wrong.to_str().unwrap()]);
    assert_eq!((code, said.contains("wrong password")), (1, true), "{said}");
    assert!(!keys(&other).join("wallet.json").exists());
    let restored = other.json(&[&restore[..], &["--keep-file"]].concat());
    assert_eq!(
        (&restored["wallet"], &restored["protection"]),
        (&wallet.clone().into(), &"password_beside".into())
    );
    assert_eq!(up(&other), wallet);
    // Again: nothing to replace.
    other.json(&restore);
    assert_eq!(shown(&other)["protection"], "own_password");

    // In the place of another wallet only when told to, and that one is kept.
    let third = Machine::new();
    let own = third.json(&["wallet", "new"])["wallet"].as_str().unwrap().to_owned();
    let (code, said) = fails(&third, &restore);
    assert_eq!((code, said.contains("--replace") && said.contains(&own)), (1, true), "{said}");
    assert_eq!(shown(&third)["wallet"], own.as_str());
    third.json(&[&restore[..], &["--replace"]].concat());
    assert_eq!(shown(&third)["wallet"], wallet.as_str());
    let kept = keys(&third).join("wallet.json.1.replaced");
    let kept_password = keys(&third).join("wallet.password.1.replaced");
    third.json(&[
        "wallet",
        "restore",
        kept.to_str().unwrap(),
        "--password-file",
        kept_password.to_str().unwrap(),
        "--replace",
    ]);
    assert_eq!(shown(&third)["wallet"], own.as_str());
    assert!(keys(&third).join("wallet.json.2.replaced").exists());

    let damaged = secret(third.path("damaged"), &text.replace("65536", "65537"));
    let (code, said) = fails(
        &third,
        &["wallet", "restore", damaged.to_str().unwrap(), "--password-file", password, "--replace"],
    );
    assert_eq!((code, said.contains("wrong password")), (1, true), "{said}");
    secret(damaged.clone(), &text[..300]);
    let (code, said) = fails(&third, &["wallet", "restore", damaged.to_str().unwrap()]);
    assert_eq!((code, said.contains("damaged")), (1, true), "{said}");
}

/// A terminal, and a command that runs on it.
struct Terminal {
    keyboard: File,
    screen: File,
    seen: String,
}

impl Terminal {
    /// Starts a command on a new terminal.
    fn start(command: &mut Command) -> (Self, thread::JoinHandle<(ExitStatus, String)>, OwnedFd) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let slave = File::options().read(true).write(true).open(path).unwrap();
        let held: OwnedFd = slave.try_clone().unwrap().into();
        command.stdin(slave.try_clone().unwrap()).stderr(slave).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let ended = thread::spawn(move || {
            let mut out = String::new();
            child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
            (child.wait().unwrap(), out)
        });
        let keyboard = File::from(master);
        let screen = keyboard.try_clone().unwrap();
        (Self { keyboard, screen, seen: String::new() }, ended, held)
    }

    /// Waits for the end of a question, and answers.
    fn answer(&mut self, question: &str, keys: &str) {
        let mut bytes = [0; 4_096];
        while !self.seen.contains(question) {
            let read = self.screen.read(&mut bytes).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        self.seen = self.seen.split_once(question).unwrap().1.to_owned();
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }
}

#[test]
fn somebody_at_a_terminal_is_asked_and_nothing_is_echoed() {
    let machine = Machine::new();
    let wallet = machine.json(&["wallet", "new"])["wallet"].as_str().unwrap().to_owned();

    let mut command = machine.command();
    let (mut terminal, ended, held) = Terminal::start(command.args(["wallet", "change-password"]));
    terminal.answer("new password of the wallet: ", "open sesame\n");
    terminal.answer("once more: ", "open sesame\r");
    let (status, out) = ended.join().unwrap();
    assert_eq!((status.success(), out.trim()), (true, wallet.as_str()));
    assert!(!terminal.seen.contains("sesame"), "{}", terminal.seen);
    drop(command);

    let mut command = machine.command();
    let (mut terminal, ended, _held) = Terminal::start(command.args(["wallet", "unlock"]));
    terminal.answer("password of the wallet: ", "wrong\n");
    terminal.answer("wrong; password of the wallet: ", "open sesamx\x7fe\n");
    let (status, out) = ended.join().unwrap();
    assert_eq!((status.success(), out.trim()), (true, "unlocked by the prompt"));

    // Ctrl-C leaves the terminal as it was.
    let mut command = machine.command();
    let (mut terminal, ended, held_too) = Terminal::start(command.args(["wallet", "unlock"]));
    terminal.answer("password of the wallet: ", "");
    wait_for("the echo to be off", || {
        (!tcgetattr(&held_too).unwrap().local_modes.contains(LocalModes::ECHO)).then_some(())
    });
    terminal.answer("", "\x03");
    assert_eq!(ended.join().unwrap().0.code(), Some(1));
    assert!(tcgetattr(&held_too).unwrap().local_modes.contains(LocalModes::ECHO | LocalModes::ICANON));
    drop(held);
}

/// A machine without a keyring, or with one that does not answer, does not wait for it.
#[test]
fn a_keyring_that_is_silent_holds_up_nothing() {
    let machine = Machine::new();
    let password = secret(machine.path("password"), "correct horse");
    machine.json(&["wallet", "new", "--password-file", password.to_str().unwrap()]);
    let bus = machine.path("bus");
    let unlock = || {
        let start = Instant::now();
        let mut command = machine.command();
        command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", bus.display()));
        let output = command.env("ANTIPHON__WALLET__KEYRING", "true").args(["wallet", "unlock"]).output();
        let (code, said) = failed(&output.unwrap());
        assert_eq!(code, 1, "{said}");
        (start.elapsed(), said)
    };
    let (_, said) = unlock();
    assert!(said.contains("the keyring: there is none in this session"), "{said}");
    let _silent = UnixListener::bind(&bus).unwrap();
    let (took, said) = unlock();
    assert!(said.contains("the keyring: no answer within 2 s"), "{said}");
    // 2 s, and what a busy machine adds.
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// A keyring of GNOME's on a session bus of its own, where it is installed.
#[test]
fn a_keyring_remembers() {
    let there = ["dbus-run-session", "gnome-keyring-daemon"].iter().all(|program| {
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    if !missing("gnome-keyring-daemon on a bus of dbus-run-session", there) {
        return;
    }
    let machine = Machine::new();
    let password = secret(machine.path("password"), "correct horse");
    machine.json(&["wallet", "new", "--password-file", password.to_str().unwrap()]);
    let script = "printf keyring | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1\n\
        export ANTIPHON__WALLET__KEYRING=true\n\
        \"$ANTIPHON\" wallet unlock && exit 9\n\
        ANTIPHON__WALLET__PASSWORD_FILE=\"$PASSWORD\" \"$ANTIPHON\" wallet unlock --remember || exit 8\n\
        exec \"$ANTIPHON\" wallet unlock --json";
    let mut command = Command::new("dbus-run-session");
    machine.dress(&mut command).args(["--", "sh", "-c", script]);
    command.env("ANTIPHON", env!("CARGO_BIN_EXE_antiphon")).env("PASSWORD", &password);
    let runtime = machine.path("run");
    fs::create_dir(&runtime).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
    let output = command.env("XDG_RUNTIME_DIR", runtime).env("RUST_LOG", "trace").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?} {errors}", output.status);
    // What goes over the bus is encrypted, so that no trace of it has the password.
    assert!(errors.contains("TRACE") && !errors.contains("correct horse"), "{errors}");
    let last = String::from_utf8_lossy(&output.stdout);
    let answer: Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!(answer["unlocked_by"], "keyring");
}
