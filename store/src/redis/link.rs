//! The connections to the server, and what its answers mean. One shared connection carries what is short and frequent;
//! a small pool carries what may be long (listings, outputs), so that nothing waits behind it. Every call ends within
//! the timeout. Nothing is ever sent twice, except to a server that has said that it did not know the script.

use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use deadpool_redis::{Manager, Pool, PoolError, Runtime};
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, Script,
    ServerError, ServerErrorKind, Value,
};

use super::RedisOptions;
use crate::StoreError;

/// How often a script is sent again to a server that forgets it.
const RELOADS: usize = 3;

/// Which connection carries a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The shared one.
    Shared,
    /// One of the pool.
    Pooled,
}

/// A script. Servers know it by its hash.
pub(super) struct Lua {
    source: &'static str,
    hash: OnceLock<String>,
}

impl Lua {
    pub(super) const fn new(source: &'static str) -> Self {
        Self { source, hash: OnceLock::new() }
    }

    fn hash(&self) -> &str {
        self.hash.get_or_init(|| Script::new(self.source).get_hash().to_owned())
    }

    /// A call of it, to be filled with its keys (`key_count` of them) and arguments.
    pub(super) fn calling(&self, key_count: usize) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.hash()).arg(key_count);
        call
    }
}

/// The shared connection. It connects again when it breaks. One that leaves a call unanswered is given up for a new
/// one: it may be half-open, and a proxy on the way can keep it so for ever.
struct Shared {
    client: Client,
    config: ConnectionManagerConfig,
    /// The connection, and how many there were before.
    current: RwLock<(u64, ConnectionManager)>,
}

impl Shared {
    fn new(client: Client, config: ConnectionManagerConfig) -> Result<Self, RedisError> {
        let first = ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?;
        Ok(Self { client, config, current: RwLock::new((0, first)) })
    }

    fn current(&self) -> (u64, ConnectionManager) {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives up the connection with this number, if nobody has yet. Calls that use it still may end.
    fn give_up(&self, number: u64) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.0 != number {
            return;
        }
        match ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone()) {
            Ok(next) => *current = (number + 1, next),
            Err(error) => tracing::error!(%error, "the connection to Redis cannot be replaced"),
        }
    }
}

/// The connections to the server.
#[derive(Clone)]
pub(super) struct Link {
    shared: Arc<Shared>,
    pool: Pool,
    address: String,
    timeout: Duration,
}

impl fmt::Debug for Link {
    /// Without the password, which the connections would tell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Link {
    /// Opens the connections when they are first needed, and again whenever they break.
    pub(super) fn new(options: &RedisOptions) -> Result<Self, StoreError> {
        let unusable = |error: RedisError| StoreError::Unusable(format!("the URL of the Redis server: {error}"));
        let info =
            options.url.as_str().into_connection_info().map_err(unusable)?.set_tcp_settings(tcp(options.timeout));
        let reconnect = ConnectionManagerConfig::new()
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_secs(2))
            .set_number_of_retries(usize::MAX)
            .set_connection_timeout(Some(options.connect_timeout))
            // Ours sees a connection that falls silent; this one would leave it as it is.
            .set_response_timeout(None);
        let pooled = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(Some(options.timeout));
        let manager = Manager::new_with_config(info.clone(), pooled).map_err(unusable)?;
        let pool = Pool::builder(manager)
            .max_size(options.pool_size)
            .wait_timeout(Some(options.timeout))
            .create_timeout(Some(options.connect_timeout))
            .recycle_timeout(Some(options.timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Unusable(error.to_string()))?;
        let address = info.addr().to_string();
        let client = Client::open(info).map_err(unusable)?;
        let shared = Shared::new(client, reconnect).map_err(unusable)?;
        Ok(Self { shared: Arc::new(shared), pool, address, timeout: options.timeout })
    }

    /// Sends commands in one go; an answer per command, which may be a refusal.
    pub(super) async fn send(&self, lane: Lane, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let (number, mut shared) = self.shared.current();
        let answers = async {
            match lane {
                Lane::Shared => shared.req_packed_commands(commands, 0, commands.len()).await,
                Lane::Pooled => {
                    let mut connection = match self.pool.get().await {
                        Ok(connection) => connection,
                        Err(PoolError::Backend(error)) => return Err(failed(&error)),
                        Err(error) => return Err(StoreError::Unavailable(error.to_string())),
                    };
                    connection.req_packed_commands(commands, 0, commands.len()).await
                }
            }
            .map_err(|error| failed(&error))
        };
        let answers = tokio::time::timeout(self.timeout, answers).await;
        if answers.is_err() && lane == Lane::Shared {
            self.shared.give_up(number);
        }
        answers.unwrap_or_else(|_| {
            Err(StoreError::Unavailable(format!("{} did not answer in {:?}", self.address, self.timeout)))
        })
    }

    /// Sends calls of a script in one go; an answer per call, which may be a refusal. The server is told the script when
    /// it does not know it, and then only asked again what it refused for that.
    pub(super) async fn call(&self, lane: Lane, script: &Lua, calls: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let mut answers = self.send(lane, calls).await?;
        for _ in 0..RELOADS {
            let unknown: Vec<_> = (0..answers.len()).filter(|&call| is_unknown_script(&answers[call])).collect();
            if unknown.is_empty() {
                break;
            }
            let mut again = redis::pipe();
            again.cmd("SCRIPT").arg("LOAD").arg(script.source);
            let mut asked = unknown.iter().peekable();
            for (call, command) in calls.cmd_iter().enumerate() {
                if asked.next_if(|&&unknown| unknown == call).is_some() {
                    again.add_command(command.clone());
                }
            }
            let mut late = self.send(lane, &again).await?.into_iter();
            read::<Value>(late.next().unwrap_or(Value::Nil))?; // the answer to the loading
            for (call, answer) in unknown.into_iter().zip(late) {
                answers[call] = answer;
            }
        }
        Ok(answers)
    }

    /// Sends one command and reads its answer.
    pub(super) async fn ask<T: FromRedisValue>(&self, lane: Lane, command: Cmd) -> Result<T, StoreError> {
        let mut commands = Pipeline::with_capacity(1);
        commands.add_command(command);
        first(self.send(lane, &commands).await?)
    }

    /// Sends one call of a script and reads its answer.
    pub(super) async fn call_one<T: FromRedisValue>(
        &self,
        lane: Lane,
        script: &Lua,
        call: Cmd,
    ) -> Result<T, StoreError> {
        let mut calls = Pipeline::with_capacity(1);
        calls.add_command(call);
        first(self.call(lane, script, &calls).await?)
    }
}

/// No waiting for more to send, and an end to connections whose other side is gone without a word.
fn tcp(timeout: Duration) -> TcpSettings {
    let keepalive = redis::io::tcp::socket2::TcpKeepalive::new().with_time(Duration::from_secs(10));
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(timeout * 2);
    #[cfg(not(target_os = "linux"))]
    let _ = timeout;
    settings
}

fn first<T: FromRedisValue>(answers: Vec<Value>) -> Result<T, StoreError> {
    read(answers.into_iter().next().unwrap_or(Value::Nil))
}

/// Reads an answer.
pub(super) fn read<T: FromRedisValue>(answer: Value) -> Result<T, StoreError> {
    match answer {
        Value::ServerError(error) => Err(refused(&error)),
        answer => redis::from_redis_value(answer).map_err(|error| StoreError::Corrupt(format!("Redis says: {error}"))),
    }
}

fn is_unknown_script(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

/// What it means that the server refuses.
fn refused(error: &ServerError) -> StoreError {
    meaning(error.code(), &format!("{} {}", error.code(), error.details().unwrap_or_default()))
}

/// What it means that a call has failed.
fn failed(error: &RedisError) -> StoreError {
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig | ErrorKind::RESP3NotSupported, _) => {
            StoreError::Unusable(error.to_string())
        }
        (_, Some(code)) => meaning(code, &error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

fn meaning(code: &str, text: &str) -> StoreError {
    // Servers before 7.0 wrap the refusal of a command within a script: "ERR Error running script …: -OOM command …".
    let wrapped = |code: &str| text.contains(&format!(": -{code} "));
    let is = |codes: &[&str]| codes.iter().any(|known| code == *known || wrapped(known));
    if is(&["OOM", "MISCONF", "READONLY", "NOREPLICAS"]) {
        StoreError::Full(text.to_owned())
    } else if is(&["LOADING", "BUSY", "TRYAGAIN", "MASTERDOWN", "CLUSTERDOWN", "NOSCRIPT"])
        || text.contains("max number of clients")
    {
        StoreError::Unavailable(text.to_owned())
    } else if is(&["NOAUTH", "WRONGPASS", "NOPERM"]) {
        StoreError::Unusable(format!("Redis refuses: {text}. Check the user, the password and its rights."))
    } else if is(&["MOVED", "ASK", "CROSSSLOT"]) {
        StoreError::Unusable(format!(
            "Redis Cluster is not supported; use a server that is not in cluster mode ({text})"
        ))
    } else {
        StoreError::Corrupt(format!("Redis says: {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_the_caller_can_do() {
        for (code, text, expected) in [
            ("OOM", "OOM command not allowed when used memory > 'maxmemory'.", "Full"),
            ("ERR", "ERR Error running script (call to f_6b): @user_script:1: -OOM command not allowed", "Full"),
            ("READONLY", "READONLY You can't write against a read only replica.", "Full"),
            ("LOADING", "LOADING Redis is loading the dataset in memory", "Unavailable"),
            ("ERR", "ERR max number of clients reached", "Unavailable"),
            ("NOAUTH", "NOAUTH Authentication required.", "Unusable"),
            ("MOVED", "MOVED 3999 127.0.0.1:6381", "Unusable"),
            ("WRONGTYPE", "WRONGTYPE Operation against a key holding the wrong kind of value", "Corrupt"),
        ] {
            let told = format!("{:?}", meaning(code, text));
            assert!(told.starts_with(expected), "{text}: {told}");
        }
    }
}
