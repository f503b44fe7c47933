"""Values of one run: which count, medians, spreads, ratios, as a table and as JSON."""

import json
import statistics

from host import say


class Results:
    def __init__(self, part, about):
        self.part, self.about = part, about
        # case name -> contender name -> [(round, outcome or reason)]
        self.rows = {}
        self.titles = {}
        self.order = []
        # What was found wrong, for the end of the run.
        self.wrong = []

    def _cell(self, case, contender):
        self.titles[case.name] = case.title
        if contender not in self.order:
            self.order.append(contender)
        return self.rows.setdefault(case.name, {}).setdefault(contender, [])

    def add(self, case, contender, round_number, outcome):
        say(f"{contender}: {case.title}: {number(outcome.value)} {outcome.unit} {outcome.same}".rstrip())
        self._cell(case, contender).append((round_number, outcome))

    def failed(self, case, contender, round_number, why):
        self._cell(case, contender).append((round_number, why))
        self.wrong.append(f"{case.title}, {contender}, round {round_number}: {why}")

    def compare(self, round_number):
        """Takes out the values of a round whose results differ from the first contender's."""
        for name, cells in self.rows.items():
            found = {
                who: outcome
                for who, values in cells.items()
                for number, outcome in values
                if number == round_number and not isinstance(outcome, str) and outcome.same
            }
            if not found:
                continue
            first = next(who for who in self.order if who in found)
            for who, outcome in found.items():
                if outcome.same != found[first].same:
                    why = f"result {outcome.same}, but {found[first].same} on {first}"
                    values = cells[who]
                    values[values.index((round_number, outcome))] = (round_number, why)
                    self.wrong.append(f"{self.titles[name]}, {who}, round {round_number}: {why}")

    def values(self, name, who):
        cell = self.rows.get(name, {}).get(who, [])
        return [outcome.value for _, outcome in cell if not isinstance(outcome, str)]

    def unit(self, name):
        for cell in self.rows[name].values():
            for _, outcome in cell:
                if not isinstance(outcome, str):
                    return outcome.unit
        return "s"

    def table(self, base):
        """Markdown: the median, its ratio to the base's, and how far the rounds were apart."""
        width = 44
        lines = [f"| {'case':{width}} | " + " | ".join(f"{who:>22}" for who in self.order) + " |"]
        lines.append("|" + "-" * (width + 2) + "|" + f"{'-' * 23}:|" * len(self.order))
        for name in self.rows:
            unit = self.unit(name)
            title = self.titles[name] + ("" if unit == "s" else f" ({unit})")
            reference = self.values(name, base)
            cells = [self.cell(name, who, reference and statistics.median(reference)) for who in self.order]
            lines.append(f"| {title:{width}} | " + " | ".join(f"{c:>22}" for c in cells) + " |")
        return "\n".join(lines)

    def cell(self, name, who, reference):
        values = self.values(name, who)
        if not values:
            return "failed" if self.rows[name].get(who) else ""
        median = statistics.median(values)
        text = number(median)
        if reference and len(self.rows[name]) > 1:
            text += f" {median / reference:.2f}x"
        if len(values) > 1 and median:
            text += f" ±{(max(values) - min(values)) / 2 / median * 100:.0f}%"
        return text

    def write_json(self, path, base):
        cases = []
        for name, cells in self.rows.items():
            reference = self.values(name, base)
            for who, cell in cells.items():
                values = self.values(name, who)
                row = {"case": name, "title": self.titles[name], "contender": who, "unit": self.unit(name)}
                row["values"] = values
                row["failures"] = [why for _, why in cell if isinstance(why, str)]
                if values:
                    row["median"] = statistics.median(values)
                    row["lowest"], row["highest"] = min(values), max(values)
                    if reference and statistics.median(reference):
                        row["ratio"] = row["median"] / statistics.median(reference)
                cases.append(row)
        with open(path, "w") as out:
            json.dump({"part": self.part, "about": self.about, "base": base, "cases": cases}, out, indent=1)
            out.write("\n")

    def show(self, base, path):
        """The end of a run; returns its exit status."""
        for key, value in self.about.items():
            print(f"{key}: {value}")
        print(f"median, ratio to {base}, and half the distance from lowest to highest; seconds if nothing else is said\n")
        print(self.table(base))
        for line in self.wrong:
            print(f"WRONG: {line}")
        if path:
            self.write_json(path, base)
        return 1 if self.wrong else 0


def number(value):
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"
