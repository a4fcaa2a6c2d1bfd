// The export page: the same as a command.
import { $, onChange, post, say } from "./common.js";
import { follow } from "./features.js";

const form = $("export");
const chosen = () => ({ to: new FormData(form).get("to"), only: $("only").value, out: $("out").value });
function command() {
  const { to, only, out } = chosen();
  $("command").textContent = `coterie export RUN --to ${to}${only === "" ? "" : ` --only ${only}`} -o ${/[^\w./-]/.test(out) ? `'${out.replaceAll("'", "'\\''")}'` : out}`;
}
const out = $("out");
// The proposed name follows the format, until somebody writes another.
function rename() {
  const ending = form.querySelector('[name="to"]:checked').dataset.ending, was = out.dataset.proposed ?? out.defaultValue;
  if (out.value === was) out.value = out.dataset.proposed = out.dataset.stem + ending;
}
if (form) {
  form.oninput = (event) => { if (event.target.name === "to") rename(); command(); };
  form.onsubmit = async (event) => {
    event.preventDefault();
    $("go").disabled = true;
    const answer = await post("/jobs/export", { settings: chosen() });
    if (answer.ok) {
      $("progress").hidden = false;
      const job = await follow("export", (one) => { $("job").textContent = one.state === "running" ? "Writing …" : one.message; });
      $("progress").hidden = true;
      if (job.state === "failed") say(job.message, true);
    } else say((await answer.json()).error, true);
    $("go").disabled = false;
  };
  command();
}
onChange(() => {});
