//! The cost of a call through `cable-client` to the calling process, compared with tonic's client alone: the same
//! connection settings, the same deadline, the same message decoded. The two take turns in one process on one thread,
//! so that a busy machine affects both.

use std::{fs, path::Path, process::Command, time::Duration};

use cable_client::{Cable, v1};
use clap::builder::RangedU64ValueParser;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use crate::{
    Outcome, newsroom::Newsroom, node::Program, report::grouped,
    service::content_service_client::ContentServiceClient,
};

const ROUNDS: usize = 9;
const CALLS: usize = 4_000;
/// The numbers of calls under Valgrind. Costs outside of a call are the same in both runs and cancel out in their
/// difference.
const FEW_CALLS: usize = 500;
const MANY_CALLS: usize = 1_500;
const CONCURRENCY: [usize; 2] = [1, 16];
const DEADLINE: Duration = Duration::from_secs(10);
/// The windows that cable-client grants.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct CallOptions {
    /// Client to call through: `bare` is tonic's alone.
    #[arg(long, value_parser = ["bare", "cable"])]
    client: String,
    /// Endpoint of the node.
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// Article to get.
    #[arg(long)]
    name: String,
    /// Number of calls.
    #[arg(long, value_name = "N")]
    calls: usize,
    /// Number of concurrent calls.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    at_once: usize,
}

/// Measures, and writes the results.
///
/// # Errors
/// Fails if a step of the measurement fails.
pub(crate) fn run(root: &Path) -> Outcome<()> {
    let program = Program::build(root)?;
    let dir = tempfile::tempdir()?;
    let newsroom = Newsroom::publish(&program, dir.path())?;
    let node = program.serve(&newsroom.store, &dir.path().join("node.log"))?;
    let name = &newsroom.names[0];
    let figures = CONCURRENCY.map(|at_once| measure(&node.endpoint, name, at_once, dir.path()));
    let figures = figures.into_iter().collect::<Outcome<Vec<_>>>()?;
    node.stop()?;
    eprintln!("\n{}", markdown(&figures));
    fs::write(root.join("bench/results/client.json"), format!("{:#}\n", json(&figures)))?;
    fs::write(root.join("bench/results/client.md"), markdown(&figures))?;
    Ok(())
}

/// Makes calls and nothing else, so that their instructions can be counted.
///
/// # Errors
/// Fails if a call fails.
pub(crate) fn calls(options: CallOptions) -> Outcome<()> {
    let CallOptions { client, endpoint, name, calls, at_once } = options;
    runtime()?.block_on(async {
        let caller = if client == "cable" { Caller::cable(&endpoint)? } else { Caller::bare(&endpoint)? };
        caller.calls(&name, calls, at_once).await
    })
}

/// A way to call.
#[derive(Clone)]
enum Caller {
    Bare(ContentServiceClient<Channel>),
    Cable(Cable),
}

impl Caller {
    fn bare(endpoint: &str) -> Outcome<Caller> {
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        Ok(Caller::Bare(ContentServiceClient::new(endpoint.connect_lazy())))
    }

    fn cable(endpoint: &str) -> Outcome<Caller> {
        Ok(Caller::Cable(Cable::builder(endpoint).timeout(DEADLINE).build()?))
    }

    /// Gets an article. Returns whether the response contains one.
    async fn get(&mut self, name: &str) -> Result<bool, String> {
        let article = match self {
            Caller::Bare(client) => {
                let mut message = v1::GetArticleRequest::default();
                name.clone_into(&mut message.name);
                let mut request = Request::new(message);
                request.set_timeout(DEADLINE);
                let response = client.get_article(request).await.map_err(|status| status.to_string())?;
                response.into_inner().article
            }
            Caller::Cable(cable) => {
                let fetched = cable.article(name).await.map_err(|error| error.to_string())?;
                Some(fetched.into_inner())
            }
        };
        Ok(article.is_some_and(|article| article.body.is_some()))
    }

    /// Makes `calls` calls, divided among tasks.
    async fn calls(&self, name: &str, calls: usize, at_once: usize) -> Outcome<()> {
        let mut tasks = JoinSet::new();
        for _ in 0..at_once {
            let (mut caller, name) = (self.clone(), name.to_owned());
            tasks.spawn(async move {
                for _ in 0..calls / at_once {
                    if !caller.get(&name).await? {
                        return Err("response without an article".to_owned());
                    }
                }
                Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }
}

/// The cost of a call for a number of concurrent calls.
struct Figure {
    at_once: usize,
    /// The median processor time of all rounds in microseconds.
    bare: f64,
    cable: f64,
    /// The median of the rounds' ratios.
    ratio: f64,
    bare_instructions: u64,
    cable_instructions: u64,
}

fn measure(endpoint: &str, name: &str, at_once: usize, dir: &Path) -> Outcome<Figure> {
    let (bare, cable) = runtime()?.block_on(rounds(endpoint, name, at_once))?;
    let ratios = bare.iter().zip(&cable).map(|(bare, cable)| cable / bare).collect();
    let instructions = |client| instructions(client, endpoint, name, at_once, dir);
    Ok(Figure {
        at_once,
        bare_instructions: instructions("bare")?,
        cable_instructions: instructions("cable")?,
        bare: median(bare),
        cable: median(cable),
        ratio: median(ratios),
    })
}

/// Returns the microseconds per call in each round, for tonic's client and for Cable's.
async fn rounds(endpoint: &str, name: &str, at_once: usize) -> Outcome<(Vec<f64>, Vec<f64>)> {
    let callers = [Caller::bare(endpoint)?, Caller::cable(endpoint)?];
    let mut costs = [Vec::new(), Vec::new()];
    for caller in &callers {
        caller.calls(name, CALLS / 4, at_once).await?;
    }
    for round in 0..ROUNDS {
        // Each goes first in half of the rounds.
        for index in [round % 2, (round + 1) % 2] {
            let before = own_time()?;
            callers[index].calls(name, CALLS, at_once).await?;
            costs[index].push((own_time()? - before).as_secs_f64() * 1e6 / CALLS as f64);
        }
    }
    let [bare, cable] = costs;
    Ok((bare, cable))
}

/// Returns the processor time in nanoseconds of this thread, which makes all calls. Ticks are too coarse for a round.
fn own_time() -> Outcome<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split_whitespace().next().ok_or("/proc/thread-self/schedstat is empty")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// Returns the instructions per call.
fn instructions(client: &str, endpoint: &str, name: &str, at_once: usize, dir: &Path) -> Outcome<u64> {
    let counted = |calls: usize| -> Outcome<u64> {
        let out = dir.join("client-counts");
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--quiet"]);
        command.arg(format!("--callgrind-out-file={}", out.display())).arg(std::env::current_exe()?);
        command.args(["client-calls", "--client", client, "--endpoint", endpoint, "--name", name]);
        command.args(["--calls", &calls.to_string(), "--at-once", &at_once.to_string()]);
        let output = command.output()?;
        if !output.status.success() {
            return Err(format!("client-calls failed: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let counts = fs::read_to_string(out)?;
        let total = counts.lines().find_map(|line| line.strip_prefix("totals: "));
        Ok(total.ok_or("no total in the output of Valgrind")?.trim().parse()?)
    };
    // A whole number of calls for each task.
    let (few, many) = (FEW_CALLS / at_once * at_once, MANY_CALLS / at_once * at_once);
    Ok((counted(many)? - counted(few)?) / (many - few) as u64)
}

fn runtime() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn json(figures: &[Figure]) -> Value {
    let rounded = |value: f64, by: f64| (value * by).round() / by;
    let calls: Map<String, Value> = figures
        .iter()
        .map(|figure| {
            let cost = json!({
                "bare_us": rounded(figure.bare, 10.0),
                "cable_us": rounded(figure.cable, 10.0),
                "ratio": rounded(figure.ratio, 1e3),
                "bare_instructions": figure.bare_instructions,
                "cable_instructions": figure.cable_instructions,
            });
            (format!("at once: {}", figure.at_once), cost)
        })
        .collect();
    json!({ "rounds": ROUNDS, "calls_per_round": CALLS, "calls": calls })
}

fn markdown(figures: &[Figure]) -> String {
    let mut text = "| Calls at once | tonic alone, us | cable-client, us | Ratio | Instructions, tonic | \
                    cable-client | Ratio |\n| ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for figure in figures {
        let (bare, cable) = (figure.bare_instructions, figure.cable_instructions);
        text += &format!(
            "| {} | {:.1} | {:.1} | {:.3} | {} | {} | {:.3} |\n",
            figure.at_once,
            figure.bare,
            figure.cable,
            figure.ratio,
            grouped(bare),
            grouped(cable),
            cable as f64 / bare as f64
        );
    }
    text + &format!(
        "\nGetArticle of 6.4 KB, decoded, with a deadline of {} s. Processor time of the client's process, median of \
         {ROUNDS} rounds of {CALLS} calls in which the two take turns; instructions by Valgrind, without the \
         kernel's.\n",
        DEADLINE.as_secs()
    )
}
