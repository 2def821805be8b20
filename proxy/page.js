(async () => {
  const code = document.documentElement.dataset.code;
  const progress = document.getElementById("progress");
  const waited = document.getElementById("waited");
  const began = Date.now();
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    waited.textContent = Math.round((Date.now() - began) / 1000) + " s";
    try {
      const answer = await fetch(location.href, {
        headers: {Accept: "application/problem+json"}, cache: "no-store", redirect: "manual",
      });
      if (answer.headers.get("Clonegate-Reason") !== code) {
        location.reload();
        return;
      }
      progress.textContent = (await answer.json()).progress || "";
    } catch {
      // The gateway itself is away for a moment.
    }
  }
})();
