//! `strata du`

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::bytes::shown;
use super::format::{Format, Listing};
use super::look::{human, open};
use super::{Context, print, print_line};
use crate::error::{Context as _, Failure};
use crate::inspect::path::Last;
use crate::inspect::usage::{Rows, Share, by_extension, by_package, usage};
use crate::inspect::waste::ci::{Outcome, Rules, Verdict};
use crate::inspect::waste::{Cause, Waste, of_image};
use crate::inspect::{Found, Image, Target, Tree};

/// Show where the bytes of an image, container or archive are, and which of them are wasted.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Sizes are bytes of files' contents; a file with several names counts once, holes not \
        at all. Waste is what removing it would save, each byte once: files that later layers \
        overwrote, removed, or stored again for a change of attributes, and contents stored twice.\n\n\
        --ci reads thresholds as dive does (lowestEfficiency, highestWastedBytes, \
        highestUserWastedPercent).\n\nExit status: 0 done, 1 a threshold of --ci is not met, or it \
        failed.\n\nExamples:\n  strata du -h -d 1 nginx:/usr\n  strata du --waste nginx\n  \
        strata du --ci .dive-ci nginx"
)]
pub struct Args {
    /// Sizes in K, M and G (of 1024).
    #[arg(short, long)]
    human_readable: bool,

    /// The deepest level that is shown, 0 for the sum alone.
    #[arg(short = 'd', long, value_name = "N", conflicts_with = "summarize")]
    max_depth: Option<usize>,

    /// Files too.
    #[arg(short, long, conflicts_with = "summarize")]
    all: bool,

    /// Only the sum.
    #[arg(short, long)]
    summarize: bool,

    /// What the bytes are added up by.
    #[arg(long, value_enum, default_value = "dir", conflicts_with_all = ["waste", "ci"])]
    by: By,

    /// Bytes that an image carries and doesn't need.
    #[arg(long)]
    waste: bool,

    /// Check the waste against the thresholds in a file.
    #[arg(long, value_name = "FILE")]
    ci: Option<PathBuf>,

    /// How many of the worst paths are shown, 0 for all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,

    /// How to show it: json, or a Go template.
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    /// What to look at: IMAGE[:PATH].
    #[arg(value_name = "IMAGE[:PATH]")]
    image: OsString,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// Directories.
    Dir,
    /// Layers: what each stores and wastes.
    Layer,
    /// Extensions of names.
    Kind,
    /// Packages, by the databases of dpkg and apk, which are read for it.
    Package,
}

impl Args {
    pub fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let format = Format::of(self.format.as_deref())?;
        let rules = self.ci.as_ref().map(|path| rules(path)).transpose()?;
        let (target, image) = open(context, &self.image)?;
        if self.waste || rules.is_some() {
            return self.waste(&image, &target, rules, &format);
        }
        if self.by == By::Layer {
            whole(&target, "--by layer")?;
            return self.layers(&image, &format);
        }
        let tree = image.tree()?;
        let start = tree.find(target.path(), Last::Follow)?;
        match self.by {
            By::Kind => self.shares(&by_extension(&tree, &start)?, &format),
            By::Package => {
                let shares = by_package(&tree, &start)?.ok_or_else(|| {
                    Failure::not_found(format!(
                        "{}: no database of dpkg or apk is in it",
                        image.name.escape_debug()
                    ))
                })?;
                self.shares(&shares, &format)
            }
            By::Dir | By::Layer => self.dirs(&tree, &start, &format),
        }
    }

    fn size(&self, bytes: u64) -> String {
        match self.human_readable {
            true => human(bytes),
            false => bytes.to_string(),
        }
    }

    fn dirs(&self, tree: &Tree, start: &Found, format: &Format) -> Result<ExitCode, Failure> {
        let rows = Rows {
            max_depth: match self.summarize {
                true => Some(0),
                false => self.max_depth,
            },
            files: self.all,
        };
        let found = usage(tree, start, rows)?;
        if matches!(format, Format::Table) {
            let line = |u: &crate::inspect::usage::Usage| {
                format!("{}\t{}\n", self.size(u.bytes), shown(&u.path))
            };
            print(&found.iter().map(line).collect::<String>())?;
            return Ok(ExitCode::SUCCESS);
        }
        let row = |u: &crate::inspect::usage::Usage| {
            json!({ "Path": shown(&u.path), "Bytes": u.bytes, "Size": self.size(u.bytes),
                "Entries": u.entries, "Directory": u.is_dir })
        };
        let columns = &[("SIZE", "Size"), ("PATH", "Path")];
        let others = &[
            ("BYTES", "Bytes"),
            ("ENTRIES", "Entries"),
            ("DIRECTORY", "Directory"),
        ];
        let rows: Vec<Value> = found.iter().map(row).collect();
        show(columns, others, format, &rows)
    }

    fn shares(&self, shares: &[Share], format: &Format) -> Result<ExitCode, Failure> {
        let row = |s: &Share| {
            json!({ "Size": self.size(s.bytes), "Bytes": s.bytes, "Files": s.files,
                "Name": if s.name.is_empty() { "(none)".to_owned() } else { shown(&s.name) },
                "Version": s.version })
        };
        let rows: Vec<Value> = shares.iter().map(row).collect();
        let all = [
            ("SIZE", "Size"),
            ("FILES", "Files"),
            ("NAME", "Name"),
            ("VERSION", "Version"),
        ];
        let (columns, rest) = all.split_at(match self.by {
            By::Package => 4,
            _ => 3,
        });
        let others: Vec<_> = rest.iter().copied().chain([("BYTES", "Bytes")]).collect();
        show(columns, &others, format, &rows)
    }

    fn layers(&self, image: &Image, format: &Format) -> Result<ExitCode, Failure> {
        let waste = of_image(image)?;
        let mut rows = Vec::new();
        for (layer, found) in image.layers.iter().zip(&waste.layers) {
            rows.push(json!({
                "Layer": layer.number,
                "Size": self.size(found.stored_bytes),
                "Bytes": found.stored_bytes,
                "Wasted": self.size(found.wasted_bytes),
                "WastedBytes": found.wasted_bytes,
                "DiffID": found.diff_id.to_string(),
                "CreatedBy": super::format::ellipsis(&layer.created_by().replace(['\t', '\n'], " "), 60),
            }));
        }
        let columns = &[
            ("LAYER", "Layer"),
            ("SIZE", "Size"),
            ("WASTED", "Wasted"),
            ("CREATED BY", "CreatedBy"),
        ];
        let others = &[
            ("BYTES", "Bytes"),
            ("WASTED BYTES", "WastedBytes"),
            ("DIFF ID", "DiffID"),
        ];
        show(columns, others, format, &rows)
    }

    fn waste(
        &self,
        image: &Image,
        target: &Target,
        rules: Option<Rules>,
        format: &Format,
    ) -> Result<ExitCode, Failure> {
        whole(target, "--waste")?;
        let waste = of_image(image)?;
        let verdicts = rules.map_or(Vec::new(), |rules| rules.check(&waste));
        match format {
            Format::Table => self.report(&waste, &verdicts)?,
            format => {
                let row = self.row(&waste, &verdicts);
                show(&COLUMNS, &[], format, &[row])?;
            }
        }
        let failed = verdicts.iter().any(|v| v.outcome == Outcome::Fail);
        Ok(match failed {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }

    fn top(&self) -> usize {
        match self.top {
            0 => usize::MAX,
            top => top,
        }
    }

    fn report(&self, waste: &Waste, verdicts: &[Verdict]) -> Result<(), Failure> {
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        print_line(format!("stored         {}", self.size(waste.stored_bytes)))?;
        print_line(format!("wasted         {}", self.size(waste.wasted_bytes)))?;
        for cause in Cause::ALL {
            let bytes = waste.causes.get(&cause).copied().unwrap_or(0);
            print_line(format!("  {:<13}{}", cause.word(), self.size(bytes)))?;
        }
        print_line(format!("efficiency     {}", percent(waste.efficiency())))?;
        print_line(format!(
            "user wasted    {}",
            percent(waste.user_wasted_ratio())
        ))?;
        if !waste.paths.is_empty() {
            print_line("")?;
            let rows: Vec<Value> = waste
                .paths
                .iter()
                .take(self.top())
                .map(|p| self.path(p))
                .collect();
            let columns = &[
                ("WASTED", "Wasted"),
                ("COUNT", "Count"),
                ("CAUSES", "Causes"),
                ("PATH", "Path"),
            ];
            show(columns, &[], &Format::Table, &rows)?;
            let more = waste.paths.len().saturating_sub(self.top());
            if more > 0 {
                print_line(format!("and {more} more paths (--top 0 shows all)"))?;
            }
        }
        if !verdicts.is_empty() {
            print_line("")?;
        }
        for verdict in verdicts {
            print_line(format!(
                "{}: {}: {}",
                word(verdict.outcome),
                verdict.rule,
                verdict.why
            ))?;
        }
        Ok(())
    }

    fn path(&self, path: &crate::inspect::waste::WastedPath) -> Value {
        let causes: Vec<_> = path.causes.keys().map(|c| c.word()).collect();
        let layers: Vec<usize> = path.layers.iter().map(|l| l + 1).collect();
        json!({ "Path": format!("/{}", shown(&path.path)), "WastedBytes": path.wasted_bytes,
            "Wasted": self.size(path.wasted_bytes), "Count": path.units,
            "Causes": causes.join(","), "Layers": layers })
    }

    fn row(&self, waste: &Waste, verdicts: &[Verdict]) -> Value {
        let causes: Map<String, Value> = Cause::ALL
            .iter()
            .map(|c| {
                (
                    c.word().to_owned(),
                    waste.causes.get(c).copied().unwrap_or(0).into(),
                )
            })
            .collect();
        let layers: Vec<Value> = waste
            .layers
            .iter()
            .map(|l| {
                json!({ "DiffID": l.diff_id.to_string(), "Bytes": l.stored_bytes,
                    "WastedBytes": l.wasted_bytes })
            })
            .collect();
        let verdicts: Vec<Value> = verdicts
            .iter()
            .map(|v| json!({ "Rule": v.rule, "Outcome": word(v.outcome), "Why": v.why }))
            .collect();
        json!({
            "StoredBytes": waste.stored_bytes,
            "WastedBytes": waste.wasted_bytes,
            "Efficiency": waste.efficiency(),
            "UserWastedRatio": waste.user_wasted_ratio(),
            "Causes": causes,
            "Layers": layers,
            "Paths": waste.paths.iter().take(self.top()).map(|p| self.path(p)).collect::<Vec<_>>(),
            "Rules": verdicts,
        })
    }
}

const COLUMNS: [super::format::Column; 4] = [
    ("STORED", "StoredBytes"),
    ("WASTED", "WastedBytes"),
    ("EFFICIENCY", "Efficiency"),
    ("USER WASTED", "UserWastedRatio"),
];

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "PASS",
        Outcome::Fail => "FAIL",
        Outcome::Skip => "SKIP",
    }
}

fn show(
    columns: &[super::format::Column],
    others: &[super::format::Column],
    format: &Format,
    rows: &[Value],
) -> Result<ExitCode, Failure> {
    print(&Listing { columns, others }.show(format, rows)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Waste is a question to whole images.
fn whole(target: &Target, option: &str) -> Result<(), Failure> {
    let whole = target.path.is_none() && target.span == crate::inspect::Span::All;
    match whole {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "{option} is about all layers of an image: name it without a path and a layer"
        ))),
    }
}

fn rules(path: &std::path::Path) -> Result<Rules, Failure> {
    let about = || path.display().to_string();
    Rules::parse(&std::fs::read_to_string(path).context(about)?).context(about)
}
