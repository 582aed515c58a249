#!/usr/bin/env bash
# What Prometheus is asked about the filter: that the alert rules are rules and are raised when they should be (tests/alerts/), that
# the dashboard's expressions can be read, and that the figures which both ask for are there: a rule about a figure that nobody
# gives is silent for ever.
source "$(dirname "$0")/common.sh"

stage "set-up"
source scripts/tools.sh
need_promtool
promtool=.tools/bin/promtool

stage "alert rules"
"$promtool" check rules docs/alerts.yaml
"$promtool" test rules tests/alerts/*.yaml

# As recording rules, which promtool reads. Grafana's variables stand where a name of a label or a time can.
stage "the dashboard's expressions"
rules=$target_dir/dashboard-rules.json
mkdir -p "$target_dir"
python3 - docs/grafana-dashboard.json >"$rules" <<'EOF'
import json, re, sys

def expressions(node):
    if isinstance(node, dict):
        if "expr" in node:
            yield node["expr"]
        node = list(node.values())
    for part in node if isinstance(node, list) else []:
        yield from expressions(part)

found = [re.sub(r"\$__\w+", "5m", text) for text in expressions(json.load(open(sys.argv[1])))]
rules = [{"record": f"dashboard:{number}", "expr": text} for number, text in enumerate(found)]
json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, sys.stdout)
EOF
"$promtool" check rules "$rules"

stage "the figures that rules and dashboard ask for"
names=$(grep -oh 'durpina_[a-z_]*[a-z]' docs/alerts.yaml docs/grafana-dashboard.json | sort -u)
for name in $names; do
  grep -qrF "\"$name\"" src/admin || die "the filter gives no $name, which docs/alerts.yaml or docs/grafana-dashboard.json asks for"
  grep -qF "\`$name\`" docs/api.md || die "docs/api.md does not explain $name"
done
say "$(wc -w <<<"$names") figures, all there"
