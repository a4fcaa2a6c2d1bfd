// The job that computes the embedding of all items.
import { ask, post, say } from "./common.js";

export async function follow(name, told) {
  for (;;) {
    const job = (await ask("/jobs")).jobs.find((one) => one.name === name);
    if (!job) return null;
    told(job);
    if (job.state !== "running") return job;
    await new Promise((done) => setTimeout(done, 400));
  }
}
function left({ done, total }, seconds) {
  const minutes = seconds * (total - done) / done / 60;
  return minutes < 1 ? "less than a minute left" : `about ${Math.ceil(minutes)} min left`;
}
export function compute(button, where) {
  if (!button) return;
  button.onclick = async () => {
    button.disabled = true;
    const answer = await post("/jobs/features", {});
    if (!answer.ok) { say((await answer.json()).error, true); button.disabled = false; return; }
    const begun = performance.now();
    const job = await follow("features", (one) => { where.textContent = one.done ? `${Math.round(100 * one.done / one.total)}%, ${left(one, (performance.now() - begun) / 1000)}` : "…"; });
    if (job.state === "done") location.reload(); else { where.textContent = ""; say(job.message, true); button.disabled = false; }
  };
}
