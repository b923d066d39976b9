//! The routes of the HTTP API, each with the commands that ask it. A test compares them with what the engine serves, so
//! that whatever the API can do has a command; one that no command asks is a warning of the compiler.

use reqwest::{Method, Url};

/// A method and a path, and who asks there.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) method: Method,
    /// With `{id}` or the like where a name is to stand.
    pub(crate) path: &'static str,
    /// The commands, the most telling first.
    #[cfg_attr(not(test), expect(dead_code, reason = "what documentation and tests read"))]
    pub(crate) commands: &'static [&'static str],
}

macro_rules! routes {
    ($($name:ident = $method:ident $path:literal: $($command:literal),+;)+) => {
        $(pub(crate) const $name: Route =
            Route { method: Method::$method, path: $path, commands: &[$($command),+] };)+

        /// All of them.
        #[cfg(test)]
        pub(crate) const ALL: &[Route] = &[$($name),+];
    };
}

routes! {
    ABOUT = GET "/": "status", "doctor";
    LIVE = GET "/health/live": "status";
    READY = GET "/health/ready": "status", "doctor";
    METRICS = GET "/metrics": "metrics";
    START_RUN = POST "/v1/runs": "run", "demo";
    RUNS = GET "/v1/runs": "runs list", "status", "top";
    RUN = GET "/v1/runs/{id}": "runs show", "runs follow", "runs cancel", "run";
    DATA = GET "/v1/runs/{id}/data": "runs export";
    INPUTS = GET "/v1/runs/{id}/inputs": "runs export";
    OUTPUTS = GET "/v1/runs/{id}/outputs": "runs export";
    HISTORY = GET "/v1/runs/{id}/history": "runs history", "runs show", "runs follow", "runs export";
    FAILURES = GET "/v1/runs/{id}/failures": "runs failures", "runs show", "runs export";
    CANCEL = POST "/v1/runs/{id}/cancel": "runs cancel";
    PAUSE = POST "/v1/runs/{id}/pause": "runs pause";
    RESUME = POST "/v1/runs/{id}/resume": "runs resume";
    RETRY = POST "/v1/runs/{id}/retry": "runs retry";
    RERUN = POST "/v1/runs/{id}/rerun": "runs rerun";
    APPLY = PUT "/v1/workflows": "apply";
    VALIDATE = POST "/v1/workflows/validate": "apply";
    WORKFLOWS = GET "/v1/workflows": "workflows list";
    WORKFLOW = GET "/v1/workflows/{name}": "workflows show";
    WORKERS = GET "/v1/workers": "workers", "status", "top";
    COORDINATORS = GET "/v1/coordinators": "status", "top";
    AUDIT = GET "/v1/audit": "audit";
    DEAD = GET "/v1/dead": "dead list", "dead requeue", "dead drop", "status", "top";
    DEAD_LETTER = GET "/v1/dead/{id}": "dead show";
    REQUEUE = POST "/v1/dead/{id}/requeue": "dead requeue";
    DROP_LETTER = DELETE "/v1/dead/{id}": "dead drop";
}

impl Route {
    /// Its address on a server, with names in the order in which the path has places for them.
    pub(crate) fn at(&self, base: &Url, names: &[&str]) -> Url {
        let mut names = names.iter();
        let segments = self.path.split('/').filter(|segment| !segment.is_empty());
        let segments = segments.map(|segment| match segment.starts_with('{') {
            true => names.next().copied().unwrap_or_default(),
            false => segment,
        });
        let mut url = base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use clap::CommandFactory as _;

    use super::*;

    /// Where what is asked by programs and not by people is declared: the gateway of workers.
    const NOT_FOR_PEOPLE: &[&str] = &["gateway", "gateway.rs"];

    /// The routes that the engine's sources declare: `.route("/v1/runs", post(submit).get(list))`.
    fn served(folder: &Path, found: &mut BTreeSet<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if NOT_FOR_PEOPLE.iter().any(|other| path.ends_with(other)) {
                continue;
            }
            if path.is_dir() {
                served(&path, found);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            for declared in source.split(".route(\"").skip(1) {
                let (path, rest) = declared.split_once('"').unwrap();
                let rest = rest.split([';', '}']).next().unwrap_or_default();
                for method in ["get", "post", "put", "delete", "patch"] {
                    if rest.contains(&format!("{method}(")) {
                        found.insert((method.to_uppercase(), path.to_owned()));
                    }
                }
            }
        }
    }

    #[test]
    fn whatever_the_api_can_do_has_a_command() {
        let mut declared = BTreeSet::new();
        served(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/src/api"), &mut declared);
        let asked: BTreeSet<_> = ALL.iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
        assert!(declared.len() > 20, "the sources are read otherwise than they are written: {declared:?}");
        assert_eq!(asked, declared, "left: what commands ask; right: what the engine serves");
    }

    #[test]
    fn the_commands_that_are_said_to_ask_are_there() {
        let program = crate::args::Cli::command();
        for (route, command) in ALL.iter().flat_map(|route| route.commands.iter().map(move |command| (route, command)))
        {
            let found = command.split(' ').try_fold(&program, |above, name| above.find_subcommand(name));
            assert!(found.is_some(), "{} {} is asked by no command `{command}`", route.method, route.path);
        }
    }

    #[test]
    fn names_are_put_into_paths_and_cannot_leave_them() {
        let base = Url::parse("http://h/under/").unwrap();
        assert_eq!(REQUEUE.at(&base, &["a/../b?c"]).as_str(), "http://h/under/v1/dead/a%2F..%2Fb%3Fc/requeue");
        assert_eq!(ABOUT.at(&base, &[]).as_str(), "http://h/under");
    }
}
