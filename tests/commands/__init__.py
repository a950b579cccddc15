"""The documentation's commands, run as a reader would run them.

A page is one session of bash, in a copy of the checkout, on a machine of its own (`sandbox`). Who
writes a page marks every block with its language:

- ```sh is run, whole. ```console has prompts: lines after `$ ` (and `> `) are run, the others are
  what that prints, in which `…` stands for anything, and a line of it alone for any lines.
  A command that is to fail says so in a comment: `# exit status 1`.
- ```yaml, ```json, ```promql, ```ini and so on are parsed, and put to the program that they are for
  if one is recognised. Such a block with a name, as in ```yaml prometheus.yml, is a file that the
  commands after it find in the folder of that moment.
- ```text is for everything else: what is printed, or sketched.

On the machine, `token` in the checkout holds a token of a simulated account, Prometheus (9090),
Alertmanager (9093) and the exporter (10133) run on localhost, and whatever lies in /etc, /var and
so on is the sandbox's. Programs that a test cannot run are stand-ins: see the table in `standins`.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "borgbase-exporter"
