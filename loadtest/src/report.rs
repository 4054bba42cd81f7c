//! Tables for people; the JSON form is the same values serialised.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

use crate::compare::{Outcome, Report, client_bound};
use crate::contests::{self, Measure, Stage, Verdict};
use crate::measure::Figures;
use crate::syncs::Syncs;

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// One endpoint's figures.
pub fn figures(rows: &[(String, Figures)]) -> String {
    let mut table = table(&[
        "row",
        "op/s",
        "op/CPU-s",
        "CPU ms/op",
        "MiB/s",
        "p50 ms",
        "p99 ms",
        "peak MiB",
        "client",
    ]);
    for (name, figures) in rows {
        let mut cells = vec![name.clone()];
        cells.extend(figure_cells(figures));
        table.add_row(cells);
    }
    table.to_string()
}

fn figure_cells(figures: &Figures) -> [String; 8] {
    let server = |of: &dyn Fn(&crate::measure::ServerFigures) -> String| {
        figures.server.as_ref().map_or_else(|| "-".to_owned(), of)
    };
    let bound = if client_bound(figures) {
        " (bound)"
    } else {
        ""
    };
    [
        number(figures.operations_per_second),
        server(&|s| number(s.operations_per_cpu_second)),
        server(&|s| format!("{:.3}", s.cpu_ms_per_operation)),
        number(figures.mib_per_second),
        format!("{:.3}", figures.p50_ms),
        format!("{:.3}", figures.p99_ms),
        server(&|s| number(s.peak_mib)),
        format!("{:.0} %{bound}", figures.client_cpu * 100.0),
    ]
}

/// A contest: one line for each contender, with its ratio to the best peer.
pub fn outcome(outcome: &Outcome) -> String {
    let measure = match outcome.stage {
        Stage::Tmpfs => Measure::Efficiency,
        Stage::Disk => Measure::Rate,
        Stage::Hop if outcome.connections == 1 => Measure::AddedP99,
        Stage::Hop => Measure::Cost,
    };
    let medians: Vec<(&'static str, Figures)> = outcome
        .contenders
        .iter()
        .filter_map(|record| Some((record.name, record.median?)))
        .collect();
    let best = contests::best(measure, &medians).and_then(|(_, f)| measure.of(f));
    let title = format!("{} ({} connections)", outcome.contest, outcome.connections);
    let mut table = table(&[
        &title,
        "op/s",
        "op/CPU-s",
        "CPU ms/op",
        "MiB/s",
        "p50 ms",
        "p99 ms",
        "peak MiB",
        "client",
        "to best peer",
    ]);
    for record in &outcome.contenders {
        let mut cells = vec![record.name.to_owned()];
        if let Some(median) = &record.median {
            cells.extend(figure_cells(median));
            let ratio = measure.of(median).zip(best).map(|(own, best)| own / best);
            cells.push(ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")));
        }
        table.add_row(cells);
    }
    let mut text = table.to_string();
    for record in &outcome.contenders {
        if let Some(error) = &record.error {
            text.push_str(&format!("\n{} failed: {error}", record.name));
        }
    }
    text.push('\n');
    text
}

/// What there is to say when all is measured.
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    if !report.syncs.is_empty() {
        text.push_str(&syncs(&report.syncs));
        text.push_str("\n\n");
    }
    if !report.verdicts.is_empty() {
        text.push_str(&verdicts(&report.verdicts));
        text.push('\n');
    }
    text
}

fn verdicts(verdicts: &[Verdict]) -> String {
    let mut table = table(&["bar", "measure", "against", "bound", "reached", "result"]);
    for verdict in verdicts {
        table.add_row([
            verdict.contest.to_owned(),
            verdict.measure.to_owned(),
            verdict.against.clone(),
            format!("{}", verdict.bound),
            verdict
                .reached
                .map_or_else(|| "-".to_owned(), |reached| format!("{reached:.2}")),
            if verdict.passed { "reached" } else { "MISSED" }.to_owned(),
        ]);
    }
    table.to_string()
}

fn syncs(syncs: &[Syncs]) -> String {
    let mut table = table(&[
        "per operation",
        "row",
        "fsync",
        "fdatasync",
        "sync_file_range",
        "syncfs",
        "O_SYNC/O_DSYNC opens",
    ]);
    for syncs in syncs {
        let mut cells = vec![syncs.contender.to_owned(), syncs.row.to_owned()];
        cells.extend(
            [
                syncs.fsync,
                syncs.fdatasync,
                syncs.sync_file_range,
                syncs.syncfs,
                syncs.synchronous_files,
            ]
            .map(|calls| format!("{calls:.2}")),
        );
        table.add_row(cells);
    }
    table.to_string()
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}
