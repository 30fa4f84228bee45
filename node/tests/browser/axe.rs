//! axe-core, which looks for what keeps people out of a page: the package that the lock file names, from npm, installed
//! once into the target directory.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::{Value, json};

use crate::{common::missing, driver::Browser};

/// The script. None where npm or its registry cannot be had.
fn script() -> Option<&'static str> {
    static SCRIPT: OnceLock<Option<String>> = OnceLock::new();
    SCRIPT.get_or_init(|| fs::read_to_string(install()?).ok()).as_deref()
}

fn install() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("axe");
    fs::create_dir_all(&folder).unwrap();
    // Other processes with tests of the same target directory wait here.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/axe");
    let (mark, found) = (folder.join("installed"), folder.join("node_modules/axe-core/axe.min.js"));
    let wanted = fs::read_to_string(sources.join("package-lock.json")).unwrap();
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) && found.is_file() {
        return Some(found);
    }
    // What fails half-way leaves nothing that can be used.
    let _ = fs::remove_file(&mark);
    for name in ["package.json", "package-lock.json"] {
        fs::copy(sources.join(name), folder.join(name)).unwrap();
    }
    let installed = Command::new("npm").args(["ci", "--loglevel=error"]).current_dir(&folder).output();
    let done = match installed {
        Ok(output) => {
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            output.status.success()
        }
        Err(_) => false,
    };
    if !missing("axe-core from npm", done) {
        return None;
    }
    fs::write(mark, wanted).unwrap();
    Some(found)
}

/// Whether it is there.
pub(crate) fn is_there() -> bool {
    script().is_some()
}

/// What keeps people out of the page that is shown, of the worst two kinds.
pub(crate) fn barriers(browser: &Browser) -> Vec<String> {
    let Some(script) = script() else { return Vec::new() };
    browser.js(&format!("if (!window.axe) {{ {script} }}"), &[]);
    let found = browser.js_later(
        "const done = arguments[arguments.length - 1];
         axe.run(document, { resultTypes: ['violations'] }).then((found) => done(found.violations), (error) => done(String(error)));",
        &[],
    );
    let found = found.as_array().unwrap_or_else(|| panic!("axe-core: {found}"));
    let bad =
        found.iter().filter(|one| one["impact"] == json!("serious") || one["impact"] == json!("critical"));
    let words = |one: &Value| {
        let nodes = one["nodes"].as_array().unwrap().iter().take(3);
        let nodes: Vec<String> =
            nodes.map(|node| format!("{} ({})", node["html"], node["failureSummary"])).collect();
        format!("{}: {}", one["id"].as_str().unwrap(), nodes.join("; "))
    };
    bad.map(words).collect()
}
