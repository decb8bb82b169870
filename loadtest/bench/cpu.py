"""Server CPU per Verify: threads' time on the CPU over a window of known length, random keys, peers in the same run."""

from functools import partial

from loadtest.bench.driving import drive
from loadtest.bench.plan import Plan, interleaved, spread
from loadtest.bench.report import Row
from loadtest.bench.servers import Server, node, peers
from loadtest.bench.stores import bench_store

# Connections x calls in flight on each: budget in us, and the rules against peers.
GRPCIO, CPP = ("grpcio_sync", "grpcio_aio"), "cpp_grpc"
SHAPES = {
    (10, 100): (2.8, {GRPCIO[0]: (">=", 100), GRPCIO[1]: (">=", 100), CPP: (">=", 8)}),
    (10, 10): (4.3, {GRPCIO[0]: (">=", 70), GRPCIO[1]: (">=", 70), CPP: (">=", 7)}),
    (50, 1): (13.0, {GRPCIO[0]: (">=", 25), GRPCIO[1]: (">=", 25), CPP: (">=", 5), "redis": ("<=", 1.25)}),
    (1, 1): (None, {}),
}


def measure(plan: Plan) -> list[Row]:
    """Measure CPU per call of the node and its peers in all shapes."""
    store = bench_store(plan.keys)
    with node(store) as ours, peers(store, plan.peers, plan.notes) as others:
        cases = {
            (server.name, shape): partial(_run, server, shape, plan)
            for shape in SHAPES
            for server in [ours, *others]
        }
        cases |= {("literal", shape): partial(_run, ours, shape, plan, "--literal") for shape in ((10, 100), (10, 10))}
        found = interleaved(plan.rounds, cases)
        return [_row(plan, shape, [server.name for server in others], found) for shape in SHAPES]


def _run(server: Server, shape: tuple[int, int], plan: Plan, *extra: str) -> dict:
    return drive(server, connections=shape[0], streams=shape[1], duration_s=plan.seconds, extra=extra)


def _row(plan: Plan, shape: tuple[int, int], names: list[str], found: dict) -> Row:
    budget, ratios = SHAPES[shape]
    reports = found["verifier", shape]
    figures = {name: spread(report["server_cpu_us"] for report in found[name, shape]) for name in ["verifier", *names]}
    errors = sum(report["errors"] for report in reports)
    detail = {
        "server_cpu_us": figures,
        "rate": spread(report["rate"] for report in reports),
        "client_cpu_us": spread(report["client_cpu_us"] for report in reports),
        "server_busy": spread(report["server_busy"] for report in reports),
        "latency_us": {name: {point: spread(report["latency_us"][point] for report in found[name, shape])["median"]
                              for point in ("p50", "p99", "p99_9")} for name in figures},
        "errors": errors,
    }
    note = f"{detail['rate']['median'] / 1000:.0f}k/s, server {detail['server_busy']['median'] * 100:.0f} % busy"
    if ("literal", shape) in found:
        literal = spread(report["server_cpu_us"] for report in found["literal", shape])
        detail["literal_headers_cpu_us"] = literal
        note += f"; nghttp2-style headers {literal['median']:.2f} us"
    if errors:
        note += f"; {errors} ERRORS"
    what = f"server CPU per Verify, {plan.keys:,} keys, {shape[0]}x{shape[1]}"
    others = {name: figures[name]["median"] for name in names}
    return Row("cpu", what, figures["verifier"]["median"], "us", budget, others, ratios, detail, note)
