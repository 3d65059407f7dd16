// A button to copy beside everything that is meant to be copied.
if (navigator.clipboard) {
  for (const block of document.querySelectorAll(".copy")) {
    const code = block.querySelector("code");
    const button = Object.assign(document.createElement("button"), { type: "button", className: "copy-button", textContent: "Copy" });
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    block.append(button);
  }
}
