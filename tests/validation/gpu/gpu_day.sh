#!/usr/bin/env bash
# The first run on a machine with a GPU, in two commands. README.md beside this says how it is used.
#
#   prepare            here, beforehand: make .gpu, what the other machine lacks
#   first              there: facts, probe, tests of CUDA, the default grid, and one line, GO ON or STOP
#   second [STAGE...]  there: variants, a real network, equal code in the gate, large sizes, profiles
#   rehearse FOLDER [STAGE...]  here: the same on the CPU and with a made-up probe, then `check`
#
# Every stage has a limit, leaves what it has in $OUT at once, and none depends on another. GPU_DAY_S is the
# time for all stages of a command; keep the command's own limit 20 s above it.
set -uo pipefail
SELF=$(realpath "$0")
HERE=$(dirname "$SELF")
ROOT=$(realpath "$HERE/../../..")
cd "$ROOT" || exit 1
CARRIED="$ROOT/.gpu"
WORK="${GPU_DAY_WORK:-$CARRIED/work}"
OUT="${OUT:-$CARRIED/out}"
PYTHON="${GPU_DAY_PYTHON:-python3}"
DEVICE=cuda
LEAST_S=20  # a stage with less time than this is not begun
MOST_MIB=60 # of 64 that may travel together

# --- here, beforehand ---------------------------------------------------------------------------------------

wheels() { # name==version of what the other machine's Python lacks or has in another version
    "$PYTHON" - <<'PYTHON'
from importlib.metadata import version
names = ("msgspec", "altair", "jsonschema", "jsonschema-specifications", "referencing", "rpds-py",
         "narwhals", "tabulate", "pytest-benchmark", "py-cpuinfo2", "cloudpickle", "tqdm", "nvidia-ml-py")
print("\n".join(f"{name}=={version(name)}" for name in names))
PYTHON
}

prepare() {
    rm -rf "$CARRIED" && mkdir -p "$CARRIED/wheels" "$CARRIED/stub" "$CARRIED/cache" || return 1
    { git rev-parse HEAD && git status --porcelain; } >"$CARRIED/commit" || return 1
    local -a wanted platforms=(_2_28 _2_27 _2_17 2014 1)
    platforms=("${platforms[@]/#/--platform=manylinux}")
    mapfile -t wanted < <(wheels)
    "$PYTHON" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        "${platforms[@]/%/_x86_64}" -d "$CARRIED/wheels" "${wanted[@]}" || return 1
    without_vl_convert || return 1
    local tree carried
    tree=$(git ls-files -z -co --exclude-standard | du -cb --files0-from=- | tail -n 1 | cut -f 1)
    carried=$(du -sb "$CARRIED" | cut -f 1)
    echo "the tree has $((tree >> 20)) MiB and .gpu $((carried >> 20)) MiB; 64 MiB may travel together"
    [ $((tree + carried)) -lt $((MOST_MIB << 20)) ] || { echo 'too much travels: remove something'; return 1; }
}

without_vl_convert() { # 33 MB that make nothing but the page's script, which is kept in a cache: that travels
    XDG_CACHE_HOME="$CARRIED/cache" PYTHONPATH="$ROOT/bench:$ROOT" "$PYTHON" -c \
        'from nncore_bench.page.page import bundle; bundle()' || return 1
    local version
    version=$("$PYTHON" -c 'from importlib.metadata import version; print(version("vl-convert-python"))') || return 1
    local info="$CARRIED/stub/vl_convert_python-$version.dist-info"
    mkdir -p "$info"
    printf 'Metadata-Version: 2.1\nName: vl-convert-python\nVersion: %s\n' "$version" >"$info/METADATA"
    cp "$HERE/vl_convert_stub.py" "$CARRIED/stub/vl_convert.py"
}

# --- there --------------------------------------------------------------------------------------------------

begin() { # NAME SECONDS: get ready for a command whose stages have so much time together
    LOG="$OUT/$1.log" LIMIT_S="${GPU_DAY_S:-$2}" SECONDS=0
    mkdir -p "$OUT" "$WORK/results" && : >"$LOG" || exit 1
    export PYTHONPATH="$WORK/site:$CARRIED/stub:$ROOT/bench:$ROOT" XDG_CACHE_HOME="$CARRIED/cache" PYTHONUNBUFFERED=1
    export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 # of pytest's plugins a machine may have a dozen; one is needed
    if [ "$DEVICE" = cpu ]; then return; fi # the wheels are not for this Python
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
        --target "$WORK/site" "$CARRIED"/wheels/*.whl || exit 1
}

stage() { # NAME LIMIT COMMAND...: run it within its limit and what is left, and note how it ended
    local name=$1 limit=$2 left=$((LIMIT_S - SECONDS)) begun=$SECONDS
    shift 2
    [ "$limit" -le "$left" ] || limit=$left
    if [ "$limit" -lt "$LEAST_S" ]; then
        echo "== $name: skipped, $left s left" | tee -a "$LOG"
        return
    fi
    echo "== $name: at most $limit s" | tee -a "$LOG"
    # An interrupt first: a session that is interrupted keeps what it has finished.
    timeout -s INT -k 15 "$limit" "$@" 2>&1 | tee -a "$LOG" | tail -n 25
    echo "== $name: exit code ${PIPESTATUS[0]} after $((SECONDS - begun)) s" | tee -a "$LOG"
    if [ -d "$WORK/results/$name" ]; then tar czf "$OUT/$name.tar.gz" -C "$WORK/results" "$name"; fi
}

suite() { # NAME LIMIT OPTIONS...: a session of the suite into results of its own
    local name=$1 limit=$2
    shift 2
    stage "$name" "$limit" "$PYTHON" -m pytest bench/ --benchmark-only -q -p no:cacheprovider \
        -p pytest_benchmark.plugin --step-results="$WORK/results/$name" "$@"
}

facts() {
    cat "$CARRIED/commit"
    date -u && uname -a && nproc && free -g | head -n 2
    command -v git gcc g++ nvcc nvidia-smi
    "$PYTHON" --version
    "$PYTHON" -m pip list 2>/dev/null | grep -iE '^(torch|triton|pandas|pytest|numpy|scipy|scikit|psutil|jinja|nvidia)'
    nvidia-smi && nvidia-smi -q -d CLOCK,POWER,PERFORMANCE,ECC,COMPUTE | head -n 120
    timeout 25 "$PYTHON" "$HERE/../loudness.py" --seconds 0.5 # of its CPU, which measures as well
}

probe() {
    if [ "$DEVICE" = cpu ]; then
        "$PYTHON" "$HERE/made_up_probe.py" "$1"
    else
        "$PYTHON" "$HERE/probe.py" "$1"
    fi
}

tests_of_cuda() { # those that are marked so; collecting all others would take as long
    grep -rlE --include='test_*.py' '(@|= )pytest\.mark\.cuda' tests | sort
}

gate() { # equal code, to see what launch pairs differ by; the tree that travels has no history
    command -v git >/dev/null || { echo 'no git here'; return 1; }
    mkdir -p "$WORK/results/gate" "$WORK/gated" && cp -r bench nncore pyproject.toml "$WORK/gated/" || return 1
    cd "$WORK/gated" && git init -q . && git add -A || return 1
    git -c user.name=gate -c user.email=gate@localhost commit -qm 'as it is' || return 1
    PYTHONPATH="$WORK/site:$CARRIED/stub" "$PYTHON" -m bench gate --base HEAD --step-devices="$1" \
        --cases '(b32 and h128) or (b1024 and h512)' --budget 100s --json "$WORK/results/gate/gate.json"
}

first() { # some 400 s
    begin first 540
    timeout 40 bash "$SELF" facts >"$OUT/facts.txt" 2>&1
    head -n 12 "$OUT/facts.txt"
    stage probe 100 bash "$SELF" probe "$OUT/probe.json" "$DEVICE"
    local -a tests
    mapfile -t tests < <(tests_of_cuda)
    stage tests 90 "$PYTHON" -m pytest -q -m cuda -p no:cacheprovider -p pytest_benchmark.plugin "${tests[@]}"
    suite default 330 --step-budget=60
    "$PYTHON" "$HERE/glance.py" "$WORK/results/default" "$DEVICE" | tee -a "$LOG"
}

STAGES=(advise resnet gate large profile) # what matters most first

second() { # [STAGE...]: some 500 s for all of them
    begin "second${1:+-$1}" 560
    if [ $# = 0 ]; then set -- "${STAGES[@]}"; fi
    local name
    for name in "$@"; do "stage_$name"; done
}

stage_advise() {
    stage advise 190 "$PYTHON" -m bench advise --step-devices="$DEVICE" --step-batch-sizes=32 \
        --step-hidden=128 --step-launches=3 --step-budget=30 --step-results="$WORK/results/advise"
}

stage_resnet() { # a ResNet takes a CPU minutes, and so do convolutions in bfloat16
    local network=resnet18 batch=32 variants=eager,fused,channels-last,cudagraph precisions=float32,bfloat16
    if [ "$DEVICE" = cpu ]; then
        network=mobilenet_v3_small batch=1 variants=eager,fused,channels-last precisions=float32
    fi
    suite resnet 120 --step-subject=torchvision:$network --step-devices="$DEVICE" --step-threads=1 \
        --step-batch-sizes=$batch --step-variants=$variants --step-precisions=$precisions \
        --step-launches=2 --step-budget=20
}

stage_gate() { stage gate 120 bash "$SELF" gate "$DEVICE"; }

stage_large() {
    local batches=1024,8192,32768 hidden=512,4096
    if [ "$DEVICE" = cpu ]; then batches=32,1024 hidden=512; fi
    suite large 90 --step-devices="$DEVICE" --step-threads=1 --step-batch-sizes=$batches \
        --step-hidden=$hidden --step-precisions=float32,bfloat16 --step-launches=2 --step-budget=20 \
        --step-profile
}

stage_profile() {
    stage profile 90 "$PYTHON" -m bench profile --step-devices="$DEVICE" --step-threads=1 \
        --step-batch-sizes=1,32,1024 --step-hidden=128,512 --step-launches=1 --step-budget=4 --step-results="$WORK/results/profile"
}

# --- here: the same without a GPU ---------------------------------------------------------------------------

# Both commands, or some stages of the second; without what a CPU cannot do: graphs, the probe.
rehearse() { # FOLDER [STAGE...]
    DEVICE=cpu OUT=$(realpath -m "$1") WORK=$(mktemp -d)
    export GPU_DAY_WORK="$WORK" OUT
    trap 'rm -rf "$WORK"' EXIT
    shift
    if [ $# = 0 ]; then first; fi
    second "$@"
    PYTHONPATH="$ROOT/bench:$ROOT" "$PYTHON" "$HERE/check.py" "$OUT" | tee "$OUT/check.txt"
    ! grep -hE '^== .*: (skipped|exit code [1-9])' "$OUT"/*.log && grep -q ' checks passed$' "$OUT/check.txt"
}

case "${1:-}" in
    prepare) prepare ;;
    first | second) "$@" && ls -l "$OUT" ;;
    rehearse) shift && rehearse "${1:?rehearse FOLDER: name a folder for what comes back}" "${@:2}" ;;
    facts) facts ;;
    # These are stages, which programs of their own must be.
    probe) DEVICE=$3 && probe "$2" ;;
    gate) gate "$2" ;;
    *) echo 'prepare, first, second [STAGE...] or rehearse FOLDER [STAGE...]?' && exit 2 ;;
esac
