//! Who may use the API: names, and the secret that each of them shows. Secrets are kept as digests, and compared in a time
//! that says nothing about them.

use std::fmt;
use std::sync::Arc;

use phasework_workflows::run::ENGINE;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use crate::engine::AMQP;

/// As whom they act who show the one token that has no name, or who need none.
pub(super) const UNNAMED: &str = "api";

/// The longest name, in bytes.
pub const MAX_TOKEN_NAME_BYTES: usize = 64;

/// The most tokens. A request is compared with each.
pub const MAX_TOKENS: usize = 1000;

/// The tokens of the API. Without any, everybody who can connect may do everything.
#[derive(Clone, Default)]
pub struct Tokens(Arc<[Token]>);

#[derive(Clone)]
struct Token {
    name: Arc<str>,
    digest: [u8; 32],
}

/// What is wrong with tokens. Says no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// The token without a name is no secret, or cannot be sent.
    #[error("the token must not be empty and must have visible ASCII characters only, without spaces")]
    BadToken,
    /// An entry is not a name and a secret.
    #[error("token {number} is not NAME=SECRET")]
    NoName {
        /// Which of the entries, counted from 1.
        number: usize,
    },
    /// A name cannot be one.
    #[error(
        "token {number}: a name has 1 to {MAX_TOKEN_NAME_BYTES} letters, digits and `-_.@`, and is not `{ENGINE}` or `{AMQP}`"
    )]
    BadName {
        /// Which of the entries.
        number: usize,
    },
    /// A secret is none, or cannot be sent.
    #[error("token {number} (`{name}`): its secret must have visible ASCII characters only, without spaces")]
    BadSecret {
        /// Which of the entries.
        number: usize,
        /// Its name.
        name: String,
    },
    /// Two names have the same secret, so that nobody could tell who shows it.
    #[error("token {number} (`{name}`) has the same secret as `{other}`")]
    SameSecret {
        /// Which of the entries.
        number: usize,
        /// Its name.
        name: String,
        /// The other's.
        other: Arc<str>,
    },
    /// There are too many.
    #[error("there are more than {MAX_TOKENS} tokens")]
    TooMany,
}

impl Tokens {
    /// A token that has no name: whoever shows it acts as `api`.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn one(secret: &str) -> Result<Self, TokensError> {
        Self::default().and(secret)
    }

    /// Reads `NAME=SECRET` entries, with commas or line ends between. Lines that begin with `#` are passed over, whole. A
    /// name may come several times, while a secret is being replaced by another.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(text: &str) -> Result<Self, TokensError> {
        Self::of(lines(text).flat_map(|line| line.split(',')))
    }

    /// Reads such entries, one a line: a comma is a part of its secret.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read_lines(text: &str) -> Result<Self, TokensError> {
        Self::of(lines(text))
    }

    fn of<'t>(entries: impl Iterator<Item = &'t str>) -> Result<Self, TokensError> {
        let mut tokens = Vec::new();
        for (entry, number) in entries.map(str::trim).filter(|entry| !entry.is_empty()).zip(1..) {
            // What has no name may be a secret: it is not repeated.
            let (name, secret) = entry.split_once('=').ok_or(TokensError::NoName { number })?;
            let (name, secret) = (name.trim_end(), secret.trim_start());
            if !is_name(name) {
                return Err(TokensError::BadName { number });
            }
            if !is_secret(secret) {
                return Err(TokensError::BadSecret { number, name: name.to_owned() });
            }
            add(&mut tokens, Token::new(name, secret), number)?;
        }
        Ok(Self(tokens.into()))
    }

    /// These, and one that has no name.
    ///
    /// # Errors
    /// When that cannot be one, or is the secret of another.
    pub fn and(&self, secret: &str) -> Result<Self, TokensError> {
        if !is_secret(secret) {
            return Err(TokensError::BadToken);
        }
        let mut tokens = self.0.to_vec();
        let number = tokens.len() + 1;
        add(&mut tokens, Token::new(UNNAMED, secret), number)?;
        Ok(Self(tokens.into()))
    }

    /// These, and those.
    ///
    /// # Errors
    /// When two names have the same secret, or there are too many.
    pub fn with(&self, others: &Self) -> Result<Self, TokensError> {
        let mut tokens = self.0.to_vec();
        for (token, number) in others.0.iter().zip(1..) {
            add(&mut tokens, token.clone(), number)?;
        }
        Ok(Self(tokens.into()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who shows this secret. Takes as long whoever it is, and whether it is anybody.
    pub fn who(&self, shown: &[u8]) -> Option<Arc<str>> {
        let shown = Sha256::digest(shown);
        let mut found = u64::MAX;
        for (place, token) in (0..).zip(self.0.iter()) {
            let is_it: Choice = token.digest.ct_eq(&shown);
            found.conditional_assign(&place, is_it);
        }
        let place = usize::try_from(found).ok()?;
        self.0.get(place).map(|token| Arc::clone(&token.name))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|token| &token.name)).finish()
    }
}

impl Token {
    fn new(name: &str, secret: &str) -> Self {
        Self { name: name.into(), digest: Sha256::digest(secret.as_bytes()).into() }
    }
}

/// The lines that are no remarks.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with('#'))
}

fn add(tokens: &mut Vec<Token>, token: Token, number: usize) -> Result<(), TokensError> {
    let other = tokens.iter().find(|other| other.digest == token.digest && other.name != token.name);
    if let Some(other) = other {
        let (name, other) = (token.name.to_string(), Arc::clone(&other.name));
        return Err(TokensError::SameSecret { number, name, other });
    }
    if tokens.len() >= MAX_TOKENS {
        return Err(TokensError::TooMany);
    }
    tokens.push(token);
    Ok(())
}

/// Whether it can be sent in a header.
fn is_secret(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether whoever reads a history takes it for nobody else.
fn is_name(text: &str) -> bool {
    let is_written_well = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
    (1..=MAX_TOKEN_NAME_BYTES).contains(&text.len()) && is_written_well && ![ENGINE, AMQP].contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shows_a_secret_is_known_by_name() {
        let tokens = Tokens::read("alice=s3cret, ci=a=b==\n# nobody=x\n\nalice = n3w").unwrap().and("plain").unwrap();
        for (shown, expected) in [
            ("s3cret", Some("alice")),
            ("n3w", Some("alice")),
            ("a=b==", Some("ci")),
            ("plain", Some("api")),
            ("s3cre", None),
            ("s3crett", None),
            ("x", None),
            ("alice", None),
            ("", None),
        ] {
            assert_eq!(tokens.who(shown.as_bytes()).as_deref(), expected, "{shown:?}");
        }
        assert_eq!(Tokens::default().who(b""), None);
        assert_eq!(format!("{tokens:?}"), r#"["alice", "ci", "alice", "api"]"#);
    }

    #[test]
    fn a_remark_takes_its_whole_line_along() {
        let old = "#alice=old,bob=old2\n  # carol=old3, dave=old4\r\nerin=n3w";
        for tokens in [Tokens::read(old).unwrap(), Tokens::read_lines(old).unwrap()] {
            assert_eq!(format!("{tokens:?}"), r#"["erin"]"#);
            assert_eq!(tokens.who(b"n3w").as_deref(), Some("erin"));
        }
        assert!(Tokens::read("#alice=old,bob=old2").unwrap().is_empty());
        // Only a line is a remark, and in lines a comma is none.
        assert_eq!(Tokens::read("a=s1,#b=s2").unwrap_err(), TokensError::BadName { number: 2 });
        let tokens = Tokens::read_lines("a=s1,b=s2").unwrap();
        assert_eq!((tokens.who(b"s1,b=s2").as_deref(), tokens.who(b"s2")), (Some("a"), None));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_entry_and_without_secrets() {
        let long = format!("{}=s", "x".repeat(MAX_TOKEN_NAME_BYTES + 1));
        for (text, expected) in [
            ("a=s1,justasecret", "token 2 is not NAME=SECRET"),
            ("=s1", "token 1: a name has 1 to 64 letters"),
            ("a b=s1", "token 1: a name has"),
            ("engine=s1", "token 1: a name has"),
            ("amqp=s1", "token 1: a name has"),
            (&*long, "token 1: a name has"),
            ("a=s1\nb=", "token 2 (`b`): its secret must have visible"),
            ("a=s1\nb=two words", "token 2 (`b`): its secret"),
            ("a=s1,b=s1", "token 2 (`b`) has the same secret as `a`"),
        ] {
            let words = Tokens::read(text).unwrap_err().to_string();
            assert!(words.starts_with(expected), "{text}: {words}");
            assert!(!words.contains("s1") && !words.contains("justasecret") && !words.contains("two words"), "{words}");
        }
        let many: String = (0..=MAX_TOKENS).map(|n| format!("a{n}=s{n}\n")).collect();
        assert_eq!(Tokens::read(&many).unwrap_err(), TokensError::TooMany);
        assert!(Tokens::read(&format!("{}=s", "x".repeat(MAX_TOKEN_NAME_BYTES))).is_ok());
        assert!(Tokens::read("").unwrap().is_empty());
        for bad in ["", " ", "two words"] {
            assert_eq!(Tokens::one(bad).unwrap_err(), TokensError::BadToken, "{bad:?}");
        }
        let words = Tokens::read("a=s1").unwrap().and("s1").unwrap_err().to_string();
        assert_eq!(words, "token 2 (`api`) has the same secret as `a`");
    }
}
