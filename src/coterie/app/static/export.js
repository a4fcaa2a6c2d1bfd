// The export page: the same as a command.
import { $, ask, counted, onChange } from "./common.js";
import { follow } from "./features.js";

const form = $("export");
const chosen = () => ({ to: new FormData(form).get("to"), only: $("only").value, out: $("out").value, overwrite: $("overwrite").checked });
function command() {
  const { to, only, out, overwrite } = chosen();
  $("command").textContent = `coterie export RUN --to ${to}${only === "" ? "" : ` --only ${only}`}${overwrite ? " --overwrite" : ""} -o ${/[^\w./~-]/.test(out) ? `'${out.replaceAll("'", "'\\''")}'` : out}`;
}
const out = $("out");
// The proposed name follows the format, until somebody writes another.
function rename() {
  const ending = form.querySelector('[name="to"]:checked').dataset.ending, was = out.dataset.proposed ?? out.defaultValue;
  if (out.value === was) out.value = out.dataset.proposed = out.dataset.stem + ending;
}
// How many items, and how large they are where the pictures go along.
let asked = 0;
async function size() {
  const { to, only } = chosen(), turn = ++asked, found = await ask(`/export/size?to=${to}&only=${only}`).catch(() => null);
  if (turn === asked && found) $("size").textContent = `${counted(found.items, "items")}${found.bytes === null ? "" : `, about ${(found.bytes / 1e9).toFixed(found.bytes < 1e8 ? 3 : 1)} GB`}. `;
}
if (form) {
  form.oninput = (event) => { if (event.target.name === "to") rename(); command(); if (event.target !== out) size(); };
  form.onsubmit = async (event) => {
    event.preventDefault();
    $("go").disabled = true;
    const settings = chosen();
    $("job").textContent = "";
    await follow("export", { settings }, (one) => {
      $("progress").hidden = one.state !== "running";
      $("job").textContent = one.state === "running" ? "Writing …" : one.message;
    });
    $("progress").hidden = true;
    $("go").disabled = false;
  };
  command();
  size();
}
onChange(() => { if (form) size(); });
