//! Who may watch, as the configuration wants it.

use anyhow::Context as _;
use tracing::warn;

use crate::config::AuthConfig;
use crate::signaling::access::{Access, Code, state_dir};

/// Who may watch, and the code to print.
pub(super) fn open(auth: &AuthConfig) -> anyhow::Result<(Access, Option<Code>)> {
    let code = match auth {
        AuthConfig::None => {
            warn!(
                "--auth none: every browser that reaches this machine's ports can watch, and so can any web page opened in one; \
                 both are told the passwords of --ice-server too"
            );
            return Ok((Access::Open, None));
        }
        AuthConfig::Code { file: Some(file) } => {
            Code::load_or_create(file).with_context(|| format!("--auth-code-file {}", file.display()))?
        }
        AuthConfig::Code { file: None } => {
            let path = state_dir().map(|dir| dir.join("code"));
            match path.as_deref().map(Code::load_or_create) {
                Some(Ok(code)) => code,
                Some(Err(error)) => {
                    warn!(%error, "the code can't be kept: it lasts for this run");
                    Code::random()
                }
                None => {
                    warn!("there is no state directory (set HOME or STATE_DIRECTORY): the code lasts for this run");
                    Code::random()
                }
            }
        }
    };
    Ok((Access::with_code(code.clone()), Some(code)))
}
