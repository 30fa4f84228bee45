//! `antiphon web`: the web password, and the passwords of apps.

use anyhow::Context;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    args::{Common, Join, Web as Command},
    ask,
    output::Output,
    table::{Align, Table},
};
use crate::{
    failure::{Failure, Kind},
    ops::Request,
    peer::Reach,
    wallet::{password::Password, prompt},
    web_ops::Web,
};

pub(super) async fn run(common: &Common, what: Command, output: &Output) -> anyhow::Result<()> {
    let what = match what {
        Command::Password { clear: true, .. } => Web::ClearPassword,
        Command::Password { file: Some(file), .. } => Web::SetPassword(text(&Password::named(&file)?)?),
        Command::Password { .. } => Web::SetPassword(text(&typed().await?)?),
        Command::Apps => Web::Apps,
        Command::AddApp { name } => Web::AddApp(name.join(" ")),
        Command::RevokeApp { id } => Web::RevokeApp(id),
    };
    let answer = ask(common, &Join::default(), Request::Web(what), Reach::Local, output).await?;
    if output.json {
        return output.line(&answer.to_string());
    }
    show(&answer, output)
}

async fn typed() -> anyhow::Result<Password> {
    if !prompt::is_possible() {
        let message = "there is no terminal to type a password on: put it into a file of mode 600 and name it with --file";
        return Err(Failure::new(Kind::Usage, message).into());
    }
    let cancel = CancellationToken::new();
    tokio::task::spawn_blocking(move || prompt::ask_new("new web password", &cancel)).await?
}

fn text(password: &Password) -> anyhow::Result<String> {
    let text = std::str::from_utf8(password.bytes()).context("the web password has to be UTF-8")?;
    Ok(text.to_owned())
}

fn show(answer: &Value, output: &Output) -> anyhow::Result<()> {
    let word = |name: &str| answer[name].as_str().unwrap_or_default();
    if let Some(apps) = answer["apps"].as_array() {
        let mut table = Table::new([("id", Align::Right), ("app", Align::Left), ("user", Align::Left)]);
        for app in apps {
            let text = |name: &str| app[name].as_str().unwrap_or_default().to_owned();
            table.row([app["id"].to_string(), text("name"), text("user")]);
        }
        let protected =
            if answer["password"] == true { "there is a web password" } else { "there is no web password" };
        output.note(protected);
        return output.line(table.text().trim_end());
    }
    if answer["password"].is_string() {
        return output.line(&format!(
            "user {}\npassword {}\nThis is shown once. It is the app's API key as well; `antiphon web revoke-app {}` takes it away.",
            word("user"),
            word("password"),
            answer["id"]
        ));
    }
    output.line(match (&answer["password"], &answer["revoked"]) {
        (Value::Bool(true), _) => "the web password is set, and all browsers have to log in",
        (Value::Bool(false), _) => "there is no web password: the player is open on this machine alone",
        _ => "the app cannot log in any more",
    })
}
