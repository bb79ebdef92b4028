// Runs before anything is drawn, so that a dark page never flashes white.
document.documentElement.dataset.theme = localStorage.getItem("quintet.theme") ?? "auto";
