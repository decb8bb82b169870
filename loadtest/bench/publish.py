"""Publishing: time and memory to make keys and to publish them, first and again; and the size of the file."""

import shutil

from loadtest.bench.plan import Plan
from loadtest.bench.report import Row
from loadtest.bench.stores import CLIENT, BenchStore, Used, bench_store, run_cli

BUDGET_S = {1_000_000: 5.0, 10_000_000: 45.0}
PEAK_BYTES_MAX = 1.5e9
BYTES_PER_KEY_MAX = 190.0


def measure(plan: Plan) -> list[Row]:
    """Report what making the store cost, then add one key and publish everything again."""
    store = bench_store(plan.keys)
    made = store.made
    again = _publish_again(store)
    size = f"{plan.keys:,} keys"
    return [
        Row("publish", f"create {size} in bulk", made["create"]["wall_s"], "s", detail=made["create"],
            note=f"peak {made['create']['peak_bytes'] / 1e6:.0f} MB; when the store was made"),
        Row("publish", f"build and publish {size}, first time", made["publish"]["wall_s"], "s",
            BUDGET_S.get(plan.keys), detail=made["publish"], note="when the store was made"),
        Row("publish", f"publish one change of {size}: a delta", again.wall_s, "s", BUDGET_S.get(plan.keys),
            detail={"cpu_s": again.cpu_s}),
        Row("publish", f"peak memory of publish, {size}", made["publish"]["peak_bytes"] / 1e6, "MB",
            PEAK_BYTES_MAX / 1e6, note="of the first time"),
    ]


def measure_size(plan: Plan) -> list[Row]:
    """Report the bytes of the keyring file per key."""
    store = bench_store(plan.keys)
    size = store.keyring_bytes()
    return [Row("size", f"keyring file per key, {plan.keys:,} keys", size / store.keys, "B", BYTES_PER_KEY_MAX,
                detail={"bytes": size, "registry_bytes": store.made["registry_bytes"]}, note=f"{size / 1e6:.1f} MB")]


def _publish_again(store: BenchStore) -> Used:
    home = store.copy_home("republished")
    try:
        run_cli(home, "key", "create", "--client", CLIENT, "--json")
        return run_cli(home, "publish", "--json")
    finally:
        shutil.rmtree(home, ignore_errors=True)
