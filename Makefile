# What a person does with this checkout. `make` lists it; every target makes .venv when it needs it.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
ROWS ?= 5000000
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo up down test test-monitoring security-check chaos chaos-batch chaos-always-on chaos-dead-runs check bench-batch bench-peers bench-stream bench-dashboard bench-exporter bench-anomalies bench-personal soak screenshots backup restore lock licences audit sbom image-check kafka system-packages clean

# Recipes begin with `exec`, so that a signal for make's child reaches Python and no shell between.

help: ## List what can be made
	@printf 'make <target>, one of:\n'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-19s%s\n' "$$name" "$$text"; done

demo: $(STAMP) ## Start everything, run the pipeline and the stream once, say what they did, stop (ARGS=--tls: nothing in clear)
	@exec $(PY) -m deployments.local demo $(ARGS)

up: $(STAMP) ## Start everything and keep it running until Ctrl-C or `make down` (ARGS=--tls: nothing in clear)
	@exec $(PY) -m deployments.local up $(ARGS)

down: $(STAMP) ## Stop the stack of this checkout
	@exec $(PY) -m deployments.local down

test: $(STAMP) ## Run the tests (ARGS="-k name" for some of them)
	@exec $(PY) -m pytest $(ARGS)

test-monitoring: $(STAMP) ## Test the rules, alerts and Grafana panels on a real Prometheus and Alertmanager
	@exec $(PY) -m pytest tests/monitoring $(ARGS)

security-check: $(STAMP) ## Attack everything that docs/security.md claims, on services with TLS (needs `make kafka`)
	@exec $(PY) -m tests.security $(ARGS)

chaos: chaos-batch chaos-dead-runs ## Both of them, then kill and freeze consumers, PostgreSQL and brokers of the stream
	@exec $(PY) -m tests.chaos.stream

chaos-batch: $(STAMP) ## Kill the loader and PostgreSQL in mid-load, twenty times (SLUICEWAY_CHAOS_SEED repeats a run)
	@exec $(PY) -m pytest -s tests/chaos $(ARGS)

chaos-dead-runs: $(STAMP) ## Kill flows, workers and the Prefect server, and see that the history is true and told once
	@exec $(PY) -m tests.chaos.dead_runs $(ARGS)

chaos-always-on: $(STAMP) ## Measure how the always-on consumer comes back, case by case (ARGS="kill-flow pause" for some)
	@exec $(PY) -m tests.chaos.always_on $(ARGS)

check: $(STAMP) ## Lint, formatting, types, import contracts and bandit
	@exec $(PY) -m ruff check .
	@exec $(PY) -m ruff format --check .
	@exec $(PY) -m mypy --strict
	@exec $(PY) $(VENV)/bin/lint-imports
	@exec $(PY) -m bandit --quiet --configfile pyproject.toml --recursive \
		schemas infra tasks flows dash_app deployments

bench-batch: $(STAMP) ## Measure the load of ROWS=5000000 rows against psql's \copy
	@exec $(PY) -m tests.bench.batch --rows $(ROWS)

bench-peers: $(STAMP) ## Load one file by this, dlt, polars and pandas, side by side
	@exec $(PY) -m tests.bench.peers

bench-stream: $(STAMP) ## Measure the consumer against its parts and its peers, and its latency (needs `make kafka`)
	@exec $(PY) -m tests.bench.stream $(ARGS)

bench-dashboard: $(STAMP) ## Measure every callback of the dashboard over a million runs
	@exec $(PY) -m tests.bench.dashboard $(ARGS)

bench-exporter: $(STAMP) ## Measure a scrape of the metrics over a million runs
	@exec $(PY) -m tests.bench.exporter $(ARGS)

bench-anomalies: $(STAMP) ## Look for planted faults in seeded histories, with precision and recall
	@exec $(PY) -m tests.bench.anomalies $(ARGS)

bench-personal: $(STAMP) ## Measure what one personal column costs a load of ROWS=5000000 rows
	@exec $(PY) -m tests.bench.personal --rows $(ROWS) $(ARGS)

soak: $(STAMP) ## Watch a consumer's memory over twenty minutes of 5,000 messages a second (needs `make kafka`)
	@exec $(PY) -m tests.bench.soak $(ARGS)

screenshots: $(STAMP) ## Take the README's pictures of the dashboard, from the stack that `make up` runs
	@test -f .sluiceway/env || { echo "No stack is up: run make up, then make demo, and this." >&2; exit 1; }
	@. .sluiceway/env && exec $(PY) -m tests.docs.screenshots docs/images \
		--address "http://127.0.0.1:$$SLUICEWAY_DASHBOARD_PORT"

backup: $(STAMP) ## Leave an encrypted dump of the database in FILE (docs/encryption.md)
	@test -n "$(FILE)" || { echo "Say where to: make backup FILE=/backups/sluiceway" >&2; exit 1; }
	@exec $(PY) -m deployments.backup make "$(FILE)"

restore: $(STAMP) ## Restore FILE into the empty database of SLUICEWAY_OWNER_DATABASE_URL
	@test -n "$(FILE)" || { echo "Say what: make restore FILE=/backups/sluiceway" >&2; exit 1; }
	@exec $(PY) -m deployments.backup restore "$(FILE)"

lock: $(STAMP) ## Resolve both locks anew from pyproject.toml (then run make licences)
	@exec $(PY) -m uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --quiet \
		-o requirements.lock
	@exec $(PY) -m uv pip compile pyproject.toml --constraint requirements.lock --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet \
		-o deployments/requirements.lock

licences: $(STAMP) ## Write docs/licences.md from the installed packages
	@exec $(PY) -m tests.supply_chain.licences

audit: $(STAMP) ## Ask an advisory service for known vulnerabilities of the locked packages
	@exec $(PY) -m tests.supply_chain.audit $(ARGS)

sbom: $(STAMP) ## Leave the platform's bill of materials in FILE, as CycloneDX JSON (docs/supply-chain.md)
	@test -n "$(FILE)" || { echo "Say where to: make sbom FILE=sbom.json" >&2; exit 1; }
	@exec $(PY) -m tests.supply_chain.sbom "$(FILE)"

image-check: $(STAMP) ## Start every command of infra/compose.yaml from the image's files and packages alone (minutes)
	@exec $(PY) -m tests.deployment.image

kafka: $(STAMP) ## Fetch Apache Kafka by Maven, for the tests on a real broker
	@exec $(PY) -m infra.local.kafka_jars

system-packages: ## Install what only the fuller tests need (Debian, as root)
	apt-get update
	apt-get install --yes --no-install-recommends postgresql maven openjdk-17-jre-headless \
		chromium fonts-dejavu-core e2fsprogs mount systemd
	@# Without their services: those would listen on every address.
	folder=$$(mktemp -d) && chmod 755 "$$folder" && cd "$$folder" \
		&& apt-get download prometheus prometheus-alertmanager nginx \
		&& for package in *.deb; do dpkg-deb --extract "$$package" unpacked; done \
		&& install unpacked/usr/bin/prometheus unpacked/usr/bin/promtool \
			unpacked/usr/bin/prometheus-alertmanager unpacked/usr/bin/amtool \
			unpacked/usr/sbin/nginx /usr/local/bin \
		&& cp -r unpacked/usr/share/prometheus /usr/share/ \
		&& rm -r "$$folder"

clean: $(STAMP) ## Stop the stack, and delete its data (.sluiceway) and every cache
	@$(PY) -m deployments.local down
	rm -rf .sluiceway .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(STAMP): requirements.lock
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
		echo "There is no '$(PYTHON)': install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "'$(PYTHON)' is older than Python 3.11: name a newer one: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@exec "$(PYTHON)" -m infra.local.installation
