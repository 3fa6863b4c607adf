//! What the tests do with a page, whichever browser shows it.
//!
//! Owns how a script is put to a page and what its outcome means. `page.js` is in every document that a script is run in; whether it is there
//! before the page's own scripts is the browser's matter.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is put into every document.
pub const PAGE: &str = include_str!("page.js");

/// A browser's present window.
pub trait Page {
    /// Opens an address.
    fn open(&self, url: &str);

    /// Runs the body of an async function in the page, `args` being its arguments; gives what it returns, or what went wrong.
    fn value_of(&self, body: &str, args: &[Value]) -> Result<Value, String>;

    /// Clicks on the first element that `selector` names, as a user would; fails where it can't be clicked.
    fn click(&self, selector: &str);

    /// Presses one key with the first element that `selector` names in focus.
    fn press(&self, selector: &str, key: &str);

    /// A screenshot as PNG.
    fn screenshot(&self) -> Vec<u8>;

    /// As [`Self::value_of`], read as a type.
    fn try_run<T: DeserializeOwned>(&self, body: &str, args: &[Value]) -> Result<T, String> {
        serde_json::from_value(self.value_of(body, args)?).map_err(|error| error.to_string())
    }

    /// As [`Self::try_run`]; an error fails the test.
    fn run<T: DeserializeOwned>(&self, body: &str, args: &[Value]) -> T {
        self.try_run(body, args).unwrap_or_else(|error| panic!("in the page: {error}\nof: {body}"))
    }
}

/// The script that runs `body` for WebDriver's asynchronous execution; its value is read by [`outcome`].
pub fn script(body: &str) -> String {
    format!(
        "const args = [...arguments], done = args.pop();\n\
         (async () => {{ {body} }})().then(ok => done({{ ok: ok ?? null }}), error => done({{ error: String(error) }}));"
    )
}

/// What a [`script`] gave, or threw.
pub fn outcome(mut value: Value) -> Result<Value, String> {
    match value.get("error").and_then(Value::as_str) {
        Some(error) => Err(error.to_owned()),
        None => Ok(value["ok"].take()),
    }
}
