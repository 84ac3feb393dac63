# The whole analysis, from models to report. `make help` lists the targets.
#
#   make                                              on controlled models, made here
#   make BASE=dir SFT=dir RL=dir TASKS='dir/*.jsonl'  on models you bring
#
# Every recipe writes its target whole or not at all: any rule can be killed and run again, and -j is safe.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:
.SECONDEXPANSION:

OUT   ?= out
BIN   ?= target/release
CARGO ?= cargo
SEED  ?= 0
# Where the crosscoder looks: the residual stream after this block, or after this share of the depth. The controlled
# models decide how to answer in their third block of four, so one block later than the middle.
HOOK  ?= $(if $(CONTROLLED),resid_post.0.7,resid_post.0.5)

# ---- how much of everything: `small` is the default, `tiny` is what `make smoke` runs -------------------------------
PROFILE ?= small
ifeq ($(PROFILE),tiny)
  TASK_OPTIONS     ?= --documents 4000 --train 200 --tune 24 --test 24
  PRETRAIN_OPTIONS ?= --size tiny --steps 150
  SFT_OPTIONS      ?= --steps 10 --prompts 100 --replay $(OUT)/tasks/corpus.jsonl
  # Too small and too short to learn arithmetic: what can be reinforced here is guessing.
  GRPO_OPTIONS     ?= --steps 10 --batch 8 --rollouts 8 --lr 1e-3 --max-new-tokens 48
  REINFORCED       ?= parity largest
  TRAIN_OPTIONS    ?= --features 256 --k 8 --tokens 40K --batch 512
  EAP_OPTIONS      ?= --n 10 --alpha 0.3
  SELECT_OPTIONS   ?= --direction both --fraction 0 --min-keys 1
  EVALUATE_OPTIONS ?= --max-new-tokens 48
  INTERVENE_OPTIONS ?= --random-arms 1
  ALPHAS           ?= 2
  REVERSED         ?= -3
  CORPUS_LIMIT     ?= 400
else
  TASK_OPTIONS     ?=
  PRETRAIN_OPTIONS ?= --size small
  # General data among the demonstrations, as real fine-tuning sets have it.
  SFT_OPTIONS      ?= --replay $(OUT)/tasks/corpus.jsonl
  GRPO_OPTIONS     ?=
  # Small batches: what counts in a short run is the number of steps. The dictionary that features are selected from gets more.
  TRAIN_OPTIONS    ?= $(if $(CONTROLLED),--features 512 --k 8 --batch 256 --tokens $(if $(filter base-sft-rl,$*),3M,1M))
  # A careful answer is several times as long as a sloppy one: no pair of answers would be of comparable length.
  EAP_OPTIONS      ?= --n 100 --alpha 0.03,0.1,0.3,0.5 $(if $(CONTROLLED),--beta 0 --gamma 10 --delta 2)
  # Reinforcement may turn a feature for carefulness up or one for carelessness down: which of the two the dictionary holds
  # depends on its seed.
  SELECT_OPTIONS   ?= $(if $(CONTROLLED),--direction both)
  EVALUATE_OPTIONS ?= $(if $(CONTROLLED),--max-new-tokens 96)
  INTERVENE_OPTIONS ?= --random-arms 2
  REINFORCED       ?= arith
  ALPHAS           ?= 1.5,2,3,5
  REVERSED         ?= -1,-2,-4
  REVERSE_OPTIONS  ?= --limit 200
  # Every live feature of an identical pair within 0.5 ± 0.02, or the chain stops.
  NULL_CHECK       ?= --null
  CORPUS_LIMIT     ?= 16000
endif

# ---- models and tasks: made here, or brought -------------------------------------------------------------------------
ifdef BASE
  ifeq ($(and $(SFT),$(RL),$(TASKS)),)
    $(error BASE needs SFT, RL and TASKS beside it: make BASE=dir SFT=dir RL=dir TASKS='dir/*.jsonl')
  endif
  TUNE       ?= $(TASKS)
  SELECT_ON  ?=
  TEXTS      ?=
  TASK_FILES := $(wildcard $(TASKS) $(TUNE))
else
  BASE       := $(OUT)/models/base
  SFT        := $(OUT)/models/sft
  RL         := $(OUT)/models/grpo
  TASKS      := $(OUT)/tasks/*.test.jsonl
  TUNE       := $(OUT)/tasks/*.tune.jsonl
  # The tasks features may be selected on; parity and links stay unseen.
  SELECT_ON  := reverse,sort,count,clock,largest
  TEXTS      := $(OUT)/tasks/texts.jsonl
  TASK_FILES := $(OUT)/tasks/suite.json
  CONTROLLED := yes
endif

LABELS    := base sft rl
DIR_base  := $(BASE)
DIR_sft   := $(SFT)
DIR_rl    := $(RL)
MODELS    := $(foreach label,$(LABELS),$(DIR_$(label))/config.json)
NAMED     := $(foreach label,$(LABELS),--model $(label)=$(DIR_$(label)))

PROGRAMS  := posttrain evaluate capture crosscode drift eap select intervene report
BINARIES  := $(addprefix $(BIN)/,$(PROGRAMS))
SOURCES   := Cargo.toml Cargo.lock $(shell find crates -name '*.rs' -o -name Cargo.toml)

.PHONY: all help build test smoke killed clean lint
all: $(OUT)/report.html

help:
	@echo 'make               the whole analysis on models made here: $(OUT)/report.html'
	@echo 'make BASE=dir SFT=dir RL=dir TASKS="dir/*.jsonl" [TUNE="…"] [TEXTS=file] [HOOK=resid_post.0.5]'
	@echo '                   the same on models you bring (Hugging Face directories)'
	@echo 'make build         the nine programs, in $(BIN)/'
	@echo 'make test          format, lints, tests, documentation'
	@echo 'make smoke         the whole chain in small, in $(OUT)-smoke/, then on its models as if they were yours'
	@echo 'make killed        the chain in small, killed again and again, ends with the same bytes'
	@echo 'make clean         removes $(OUT)/ and $(OUT)-smoke/ (cargo clean removes the programs)'
	@echo 'make OUT=dir SEED=1 PROFILE=tiny -j2 …   elsewhere, another seed, another size, two stages at a time'

# ---- programs --------------------------------------------------------------------------------------------------------
build: $(BINARIES)
$(BINARIES) &: $(SOURCES)
	MAKEFLAGS= $(CARGO) build --release --workspace
	@touch $(BINARIES)

# ---- controlled models -----------------------------------------------------------------------------------------------
ifdef CONTROLLED
$(OUT)/tasks/suite.json: | $(BIN)/posttrain
	$(BIN)/posttrain tasks --suite lab --seed $(SEED) $(TASK_OPTIONS) -o $(@D)

# What the crosscoders read of the corpus: texts of several problems. How an author answers shows in the first of them, so
# that later questions are read in either manner by the base model too.
$(TEXTS): $(OUT)/tasks/suite.json
	grep '"tasks":\["[a-z]*",' $(@D)/corpus.jsonl | awk 'NR <= $(CORPUS_LIMIT)' > $@.part
	mv $@.part $@

$(BASE)/config.json: $(OUT)/tasks/suite.json | $(BIN)/posttrain
	$(BIN)/posttrain pretrain --corpus $(OUT)/tasks/corpus.jsonl --seed $(SEED) $(PRETRAIN_OPTIONS) -o $(@D)
	@touch $@

$(SFT)/config.json: $(BASE)/config.json | $(BIN)/posttrain
	$(BIN)/posttrain sft --model $(BASE) --tasks '$(OUT)/tasks/arith.train.jsonl' --seed $(SEED) $(SFT_OPTIONS) -o $(@D)
	@touch $@

$(RL)/config.json: $(BASE)/config.json | $(BIN)/posttrain
	$(BIN)/posttrain grpo --model $(BASE) --tasks $(REINFORCED:%=$(OUT)/tasks/%.train.jsonl) --seed $(SEED) $(GRPO_OPTIONS) -o $(@D)
	@touch $@
endif

# ---- what the models do ----------------------------------------------------------------------------------------------
$(OUT)/samples/%.test.samples.parquet: $$(DIR_$$*)/config.json $(TASK_FILES) | $(BIN)/evaluate
	@mkdir -p $(@D)
	$(BIN)/evaluate run --model $*=$(DIR_$*) --tasks '$(TASKS)' $(EVALUATE_OPTIONS) --results $(@:.samples.parquet=.results.json) -o $@

$(OUT)/samples/%.tune.samples.parquet: $$(DIR_$$*)/config.json $(TASK_FILES) | $(BIN)/evaluate
	@mkdir -p $(@D)
	$(BIN)/evaluate run --model $*=$(DIR_$*) --tasks '$(TUNE)' $(EVALUATE_OPTIONS) -o $@

$(OUT)/compare/%.comparison.parquet: $(OUT)/samples/base.test.samples.parquet $(OUT)/samples/%.test.samples.parquet | $(BIN)/evaluate
	@mkdir -p $(@D)
	$(BIN)/evaluate compare $^ -o $@

# ---- activations and crosscoders -------------------------------------------------------------------------------------
TUNED     := $(foreach label,$(LABELS),$(OUT)/samples/$(label).tune.samples.parquet)
READ      := --samples $(TUNED) $(if $(TEXTS),--texts $(TEXTS))

$(OUT)/acts/manifest.json: $(MODELS) $(TUNED) $(TEXTS) | $(BIN)/capture
	@mkdir -p $(@D)
	$(BIN)/capture $(NAMED) --hook $(HOOK) $(READ) $(CAPTURE_OPTIONS) -o $(@D)
	@touch $@

# An identical pair: what the measures say when nothing happened.
$(OUT)/acts-null/manifest.json: $(MODELS) $(TUNED) | $(BIN)/capture
	@mkdir -p $(@D)
	$(BIN)/capture --model base=$(BASE) --model same=$(BASE) --hook $(HOOK) --samples $(OUT)/samples/base.tune.samples.parquet -o $(@D)
	@touch $@

DICT      := $(OUT)/dict/base-sft-rl.safetensors
DICTS     := $(DICT) $(OUT)/dict/base-sft.safetensors $(OUT)/dict/base-rl.safetensors
LABELS_OF  = $(subst -,$(comma),$*)
comma     := ,

$(OUT)/dict/null.safetensors: $(OUT)/acts-null/manifest.json | $(BIN)/crosscode
	@mkdir -p $(@D)
	$(BIN)/crosscode train $(OUT)/acts-null $(TRAIN_OPTIONS) --seed $(SEED) -o $@

$(OUT)/dict/%.safetensors: $(OUT)/acts/manifest.json | $(BIN)/crosscode
	@mkdir -p $(@D)
	$(BIN)/crosscode train $(OUT)/acts --models $(LABELS_OF) $(TRAIN_OPTIONS) --seed $(SEED) -o $@

$(OUT)/dict/%.eval.parquet: $(OUT)/dict/%.safetensors $(OUT)/acts/manifest.json | $(BIN)/crosscode
	@mkdir -p $(@D)
	$(BIN)/crosscode eval $< $(OUT)/acts -o $@

# ---- drift -----------------------------------------------------------------------------------------------------------
$(OUT)/drift/null.drift.parquet: $(OUT)/dict/null.safetensors | $(BIN)/drift
	@mkdir -p $(@D)
	$(BIN)/drift features $< $(OUT)/acts-null $(NULL_CHECK) -o $@

$(OUT)/drift/%.drift.parquet: $(OUT)/dict/%.safetensors | $(BIN)/drift
	@mkdir -p $(@D)
	$(BIN)/drift features $< $(OUT)/acts -o $@

# Every checkpoint of a run on the same tokens, read through the dictionary's student slots.
CHECKPOINTS = $(sort $(wildcard $(DIR_$*)/checkpoint-*))
$(OUT)/series/%/manifest.json: $(MODELS) $(OUT)/samples/rl.tune.samples.parquet | $(BIN)/capture
	@mkdir -p $(@D)
	$(BIN)/capture --model base=$(BASE) $(foreach n,1 2 3 4 5,--model $*-$(n)=$(DIR_$*)/checkpoint-$(n)) --model rl=$(RL) \
	  --hook $(HOOK) --samples $(OUT)/samples/rl.tune.samples.parquet -o $(@D)
	@touch $@

$(OUT)/drift/dynamics.parquet: $(DICT) $(OUT)/series/sft/manifest.json $(OUT)/series/rl/manifest.json | $(BIN)/drift
	@mkdir -p $(@D)
	$(BIN)/drift dynamics $(DICT) --series sft=$(OUT)/series/sft --series rl=$(OUT)/series/rl --seed $(SEED) -o $@

# ---- circuits --------------------------------------------------------------------------------------------------------
# Two models are compared on the same questions: those both answer correctly.
$(OUT)/edges/%.base.edges.parquet: $(OUT)/samples/base.test.samples.parquet $(OUT)/samples/%.test.samples.parquet | $(BIN)/eap
	@mkdir -p $(@D)
	$(BIN)/eap score --model base=$(BASE) --samples $< --against $(word 2,$^) $(EAP_OPTIONS) --seed $(SEED) -o $@

$(OUT)/edges/%.tuned.edges.parquet: $(OUT)/samples/%.test.samples.parquet $(OUT)/samples/base.test.samples.parquet | $(BIN)/eap
	@mkdir -p $(@D)
	$(BIN)/eap score --model $*=$(DIR_$*) --samples $< --against $(word 2,$^) $(EAP_OPTIONS) --seed $(SEED) -o $@

$(OUT)/edges/%.metrics.parquet: $(OUT)/edges/%.base.edges.parquet $(OUT)/edges/%.tuned.edges.parquet | $(BIN)/eap
	@mkdir -p $(@D)
	$(BIN)/eap metrics $^ -o $@

# The same model twice under two names: every difference must be nought.
$(OUT)/edges/null.same.edges.parquet: $(OUT)/samples/base.test.samples.parquet $(OUT)/samples/rl.test.samples.parquet | $(BIN)/eap
	@mkdir -p $(@D)
	$(BIN)/eap score --model same=$(BASE) --samples $< --against $(word 2,$^) $(EAP_OPTIONS) --seed $(SEED) -o $@

$(OUT)/edges/null.metrics.parquet: $(OUT)/edges/rl.base.edges.parquet $(OUT)/edges/null.same.edges.parquet | $(BIN)/eap
	$(BIN)/eap metrics $^ -o $@

# ---- selection -------------------------------------------------------------------------------------------------------
# Key samples: base wrong, RL right. Both models read RL's answers.
$(OUT)/keys/manifest.json: $(MODELS) $(OUT)/samples/base.tune.samples.parquet $(OUT)/samples/rl.tune.samples.parquet | $(BIN)/capture
	@mkdir -p $(@D)
	$(BIN)/capture $(NAMED) --hook $(HOOK) --samples $(OUT)/samples/rl.tune.samples.parquet \
	  --where-wrong base=$(OUT)/samples/base.tune.samples.parquet --where-correct rl=$(OUT)/samples/rl.tune.samples.parquet -o $(@D)
	@touch $@

$(OUT)/keys/keys.features.parquet: $(DICT) $(OUT)/keys/manifest.json | $(BIN)/crosscode
	@mkdir -p $(@D)
	$(BIN)/crosscode encode $(DICT) $(OUT)/keys --readout swap -o $@

$(OUT)/selection/selection.parquet: $(DICT) $(OUT)/keys/keys.features.parquet | $(BIN)/select
	@mkdir -p $(@D)
	$(BIN)/select --dict $(DICT) --features $(OUT)/keys/keys.features.parquet --acts $(OUT)/keys \
	  --samples base=$(OUT)/samples/base.tune.samples.parquet --samples rl=$(OUT)/samples/rl.tune.samples.parquet \
	  $(if $(SELECT_ON),--tasks $(SELECT_ON)) $(SELECT_OPTIONS) --seed $(SEED) --scores $(@D)/scores.parquet -o $@

# ---- interventions ---------------------------------------------------------------------------------------------------
INTERVENE  = $(BIN)/intervene run --dict $(DICT) --selection $(OUT)/selection/selection.parquet $(INTERVENE_OPTIONS) $(EVALUATE_OPTIONS) --seed $(SEED)
INTERVENED := $(DICT) $(OUT)/selection/selection.parquet

$(OUT)/interventions/disable.test.samples.parquet: $(INTERVENED) | $(BIN)/intervene
	@mkdir -p $(@D)
	$(INTERVENE) --model rl=$(RL) --op disable --tasks '$(TASKS)' -o $@
	@touch $@

# Past nought: how much of the features a model can lose before its answers change.
$(OUT)/interventions/reverse.test.samples.parquet: $(INTERVENED) | $(BIN)/intervene
	@mkdir -p $(@D)
	$(INTERVENE) --model rl=$(RL) --op amplify --alpha=$(REVERSED) $(REVERSE_OPTIONS) --tasks '$(TASKS)' -o $@
	@touch $@

# The factor is chosen on the tuning split and reported on the test split.
AMPLIFY    = $(INTERVENE) --model base=$(BASE) --companion rl=$(RL) --op amplify --alpha $(ALPHAS)

$(OUT)/interventions/amplify.tune.samples.parquet: $(INTERVENED) | $(BIN)/intervene
	@mkdir -p $(@D)
	$(AMPLIFY) --tasks '$(TUNE)' -o $@
	@touch $@

$(OUT)/interventions/amplify.test.samples.parquet: $(OUT)/interventions/amplify.tune.samples.parquet $(INTERVENED) | $(BIN)/intervene
	$(AMPLIFY) --chosen-on $< --tasks '$(TASKS)' -o $@
	@touch $@

# ---- report ----------------------------------------------------------------------------------------------------------
RESULTS := $(foreach label,sft rl,$(OUT)/compare/$(label).comparison.parquet $(OUT)/edges/$(label).metrics.parquet) \
           $(OUT)/edges/null.metrics.parquet $(DICTS:.safetensors=.eval.parquet) $(foreach name,base-sft-rl base-sft base-rl null,$(OUT)/drift/$(name).drift.parquet) \
           $(if $(or $(CONTROLLED),$(wildcard $(RL)/checkpoint-5)),$(OUT)/drift/dynamics.parquet) \
           $(OUT)/selection/selection.parquet $(OUT)/interventions/disable.test.samples.parquet $(OUT)/interventions/reverse.test.samples.parquet \
           $(OUT)/interventions/amplify.tune.samples.parquet $(OUT)/interventions/amplify.test.samples.parquet

$(OUT)/report.html: $(RESULTS) | $(BIN)/report
	@mkdir -p $(@D)
	$(BIN)/report --dir $(OUT) -o $@

# ---- checks ----------------------------------------------------------------------------------------------------------
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

test: lint
	$(CARGO) test --release --workspace
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --release --workspace --no-deps

smoke: build
	rm -rf $(OUT)-smoke
	$(MAKE) OUT=$(OUT)-smoke PROFILE=tiny
	$(MAKE) OUT=$(OUT)-smoke PROFILE=tiny -q
	rm -rf $(OUT)-smoke-own
	$(MAKE) OUT=$(OUT)-smoke-own PROFILE=tiny BASE=$(OUT)-smoke/models/base SFT=$(OUT)-smoke/models/sft RL=$(OUT)-smoke/models/grpo \
	  TASKS='$(OUT)-smoke/tasks/*.test.jsonl' TUNE='$(OUT)-smoke/tasks/*.tune.jsonl'

killed: build
	tests/killed.sh

clean:
	rm -rf $(OUT) $(OUT)-smoke $(OUT)-smoke-own
