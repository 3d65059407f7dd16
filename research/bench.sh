#!/bin/sh
# The runs in research/results that `silo eval` recorded, each by the command that made it, with the packaged LM and one
# thread. For a folder with a link `corpora` to the corpora and one, `silo`, to this repository:
#
#     OMP_NUM_THREADS=1 sh silo/research/bench.sh
#
# A test compares each line with what the run says was typed.
set -eu
mkdir -p out copies results

# 1 MB of each high-risk domain; a step of the quality run, which is longer and goes on where it was.
if [ ! -d high ]; then
    python silo/research/quality.py corpora quality --model silo-6m --threads 1 --name quality --store-bytes 1000000 \
        --lists 1024 --licensed-bytes 400000 --asked-bytes 50000 --eval-bytes 60000
    cp -r quality/high high
fi
# 0.3 MB of mail from lists, with the packaged parts that a store is fitted on.
if [ ! -d mail ]; then
    python -m silo.reproduction.corpora sample corpora sample --train-bytes 1 --store-bytes 300000 --gate-bytes 1 \
        --eval-bytes 20000
    silo datastore build mail --documents sample/high/email_lists/datastore.jsonl.gz
fi

silo eval ppl books_restricted=corpora/high/books_restricted/test.jsonl.gz clinical_notes=corpora/high/clinical_notes/test.jsonl.gz code_copyleft=corpora/high/code_copyleft/test.jsonl.gz email_enron=corpora/high/email_enron/test.jsonl.gz email_lists=corpora/high/email_lists/test.jsonl.gz news_bbc=corpora/high/news_bbc/test.jsonl.gz reviews_imdb=corpora/high/reviews_imdb/test.jsonl.gz web_pages=corpora/high/web_pages/test.jsonl.gz wikipedia=corpora/high/wikipedia/test.jsonl.gz by_docs=corpora/low/by_docs/test.jsonl.gz by_irc_ubuntu=corpora/low/by_irc_ubuntu/test.jsonl.gz by_openstax=corpora/low/by_openstax/test.jsonl.gz by_plos=corpora/low/by_plos/test.jsonl.gz pd_arxiv_abstracts=corpora/low/pd_arxiv_abstracts/test.jsonl.gz pd_books=corpora/low/pd_books/test.jsonl.gz pd_court_opinions=corpora/low/pd_court_opinions/test.jsonl.gz pd_gov_web=corpora/low/pd_gov_web/test.jsonl.gz pd_proposals=corpora/low/pd_proposals/test.jsonl.gz pd_sotu=corpora/low/pd_sotu/test.jsonl.gz pd_us_code=corpora/low/pd_us_code/test.jsonl.gz sw_code=corpora/low/sw_code/test.jsonl.gz sw_docs=corpora/low/sw_docs/test.jsonl.gz sw_math=corpora/low/sw_math/test.jsonl.gz --model silo-6m --max-bytes 120000 --cache cache --out out/ppl-test.json
silo eval scaling corpora/high/email_lists/validation.jsonl.gz corpora/high/email_lists/test.jsonl.gz --model silo-6m --datastore high --n-probe 8 --searched 1024 --size 7500 --size 25000 --size 75000 --size 275000 --size 870000 --size 2750331 --max-bytes 8000 --out out/scaling-email_lists.json
silo eval scaling corpora/high/news_bbc/validation.jsonl.gz corpora/high/news_bbc/test.jsonl.gz --model silo-6m --datastore high --n-probe 8 --searched 1024 --size 7500 --size 25000 --size 75000 --size 275000 --size 870000 --size 2750331 --max-bytes 8000 --out out/scaling-news_bbc.json
silo eval scaling corpora/high/clinical_notes/validation.jsonl.gz corpora/high/clinical_notes/test.jsonl.gz --model silo-6m --datastore high --n-probe 8 --searched 1024 --size 7500 --size 25000 --size 75000 --size 275000 --size 870000 --size 2750331 --max-bytes 8000 --out out/scaling-clinical_notes.json
silo eval optout --model silo-6m --datastore mail --n-series 2 --held-out 2 --steps 3 --removed 1 --n-kept 2 --max-tokens 256 --generated 16 --work copies --out out/optout.json
silo eval attribution corpora/high/news_bbc/test.jsonl.gz --model silo-6m --datastore high --n-texts 6 --max-tokens 256 --positions 24 --removed 3 --facts 12 --generated 24 --work copies --out out/attribution.json
silo eval tasks email_lists=corpora/high/email_lists/test.jsonl.gz news_bbc=corpora/high/news_bbc/test.jsonl.gz clinical_notes=corpora/high/clinical_notes/test.jsonl.gz --model silo-6m --datastore high --n 16 --out out/tasks.json
silo eval extraction --model silo-6m --datastore high --documents 3 --max-tokens 96 --mixture lm --mixture fixed --out results/extraction.json
silo eval generation corpora/high/news_bbc/test.jsonl.gz --model silo-6m --datastore high --prompts 100 --max-tokens 32 --out out/generation.json
