// Opens the pages in the reader's language; the links of this page are the way when it cannot.
const polish = navigator.languages.some((language) => language.toLowerCase().startsWith("pl"));
location.replace(`${polish ? "pl" : "en"}/now.html`);
